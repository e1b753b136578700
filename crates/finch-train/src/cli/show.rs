//! `inspect`: which examples are meant, and their text.

use std::io::IsTerminal;

use finch_core::tokens::Tokenizer;

use super::{Inspect, print};
use crate::error::{Error, Result};
use crate::inspect::{self, Paint};
use crate::packs::{Packs, by_example};

pub(super) fn show(command: &Inspect) -> Result<()> {
    let mut packs = Packs::open(&command.data)?;
    let tokenizer = Tokenizer::load(&packs.tokenizer())?;
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let paint = if coloured { Paint::Colour } else { Paint::Plain };
    let wanted: Vec<(usize, usize)> = match (&command.example, &command.pack) {
        (Some(id), _) => {
            let examples = by_example(packs.all());
            vec![examples[unique(id, "example", examples.keys().copied())?]]
        }
        (None, Some(id)) => {
            let all = packs.all();
            let full = unique(id, "pack", all.iter().map(|pack| pack.pack_id.as_str()))?;
            let pack = all.iter().position(|pack| pack.pack_id == full).unwrap_or(0);
            (0..all[pack].documents.len()).map(|document| (pack, document)).collect()
        }
        (None, None) => vec![(packs.train().first().copied().unwrap_or(0), 0)],
    };
    if packs.all().is_empty() {
        return Err(Error::packs(format!("`{}`", command.data.display()), "it holds no pack"));
    }
    for (pack, document) in wanted {
        print(&inspect::document(&mut packs, &tokenizer, pack, document, paint)?);
    }
    Ok(())
}

/// The one id that begins so.
fn unique<'a>(beginning: &str, what: &str, ids: impl Iterator<Item = &'a str>) -> Result<&'a str> {
    let mut matches = ids.filter(|id| id.starts_with(beginning));
    match (matches.next(), matches.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::Usage(format!("several {what}s begin with `{beginning}`"))),
        (None, _) => Err(Error::Usage(format!("no {what} begins with `{beginning}`"))),
    }
}
