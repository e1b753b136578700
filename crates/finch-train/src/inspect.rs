//! An example or a pack as the model sees it: every token, and whether it is trained.
//!
//! On a terminal trained tokens are green and masked ones dim; elsewhere trained stretches stand in ⟦ ⟧. Control
//! characters of a log never reach the terminal.

use finch_core::tokens::Tokenizer;

use crate::error::Result;
use crate::packs::Packs;

/// How tokens are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// With colours.
    Colour,
    /// With brackets around trained stretches.
    Plain,
}

const GREEN: &str = "\u{1b}[32m";
const DIM: &str = "\u{1b}[2m";
const BOLD: &str = "\u{1b}[1m";
const RESET: &str = "\u{1b}[0m";

/// A document of a pack as text.
pub fn document(
    packs: &mut Packs,
    tokenizer: &Tokenizer,
    pack: usize,
    document: usize,
    paint: Paint,
) -> Result<String> {
    let heading = {
        let (entry, whole) = (&packs.all()[pack].documents[document], &packs.all()[pack]);
        format!(
            "example {}  task {}  split {}  segment {} of {} in pack {}\n{} tokens, {} trained, weight {}\n",
            entry.example_id,
            entry.task,
            whole.split.as_deref().unwrap_or("none"),
            document + 1,
            whole.documents.len(),
            whole.pack_id.chars().take(12).collect::<String>(),
            entry.tokens,
            entry.trained,
            entry.weight
        )
    };
    let (ids, trained, _) = packs.document(pack, document)?;
    let heading = printable(&heading);
    let mut text = match paint {
        Paint::Colour => format!("{BOLD}{heading}{RESET}"),
        Paint::Plain => heading,
    };
    // Stretches are decoded together: a character may be several tokens.
    for stretch in stretches(trained) {
        let part: Vec<u32> = ids[stretch.clone()].iter().map(|&id| id as u32).collect();
        let shown = printable(&tokenizer.decode(&part)?);
        match (paint, trained[stretch.start]) {
            (Paint::Colour, true) => text += &format!("{GREEN}{shown}{RESET}"),
            (Paint::Colour, false) => text += &format!("{DIM}{shown}{RESET}"),
            (Paint::Plain, true) => text += &format!("⟦{shown}⟧"),
            (Paint::Plain, false) => text += &shown,
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

/// The ranges in which a mask does not change.
fn stretches(mask: &[bool]) -> Vec<std::ops::Range<usize>> {
    let mut start = 0;
    mask.chunk_by(|a, b| a == b)
        .map(|chunk| {
            start += chunk.len();
            start - chunk.len()..start
        })
        .collect()
}

/// Text without what a terminal would obey.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_cover_the_mask() {
        let mask = [false, false, true, true, false];
        assert_eq!(stretches(&mask), [0..2, 2..4, 4..5]);
        assert!(stretches(&[]).is_empty());
    }

    #[test]
    fn escapes_in_a_log_do_not_reach_the_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\tc\n"), "a\u{fffd}[31mb\tc\n");
    }
}
