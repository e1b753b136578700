//! `gc`: removes what the newest builds do not need.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::StoreArgs;
use super::output::{columns, escaped, escaped_json, print};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::store::gc::{Item, Policy, Removal, Thing, remove, survey};

#[derive(Args)]
pub(super) struct Gc {
    #[command(flatten)]
    store: StoreArgs,
    /// Finished builds of each pipeline to keep, the newest; those of `--only` are counted apart
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep: u32,
    /// Say what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Spare what is younger, such as 90s, 30m, 12h, 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    grace: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Gc {
    pub(super) fn run(self) -> Result<ExitCode> {
        let interrupt = Interrupt::listen()?;
        let store = self.store.open_until(&interrupt)?;
        let policy = Policy { keep: self.keep as usize, grace: self.grace };
        let removal =
            if self.dry_run { survey(&store, policy)? } else { remove(&store, policy, &interrupt)? };
        if self.json {
            print(&escaped_json(&serde_json::json!(removal)))?;
        } else {
            print(&text(&removal))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(removal: &Removal) -> String {
    let rows = |word: &str, items: &[Item]| -> Vec<Vec<String>> {
        let row = |item: &Item| {
            let place = match item.thing {
                // The whole fingerprint says no more to people.
                Thing::Dataset | Thing::Training => item.place.chars().take(item.place.len() - 52).collect(),
                _ => escaped(&item.place),
            };
            vec![word.to_owned(), place, item.bytes.to_string(), escaped(&item.why)]
        };
        items.iter().map(row).collect()
    };
    let word = if removal.dry_run { "would remove" } else { "removed" };
    let mut listed = rows("spared", &removal.spared);
    listed.extend(rows(word, &removal.removed));
    let mut text =
        if listed.is_empty() { String::new() } else { columns(&["", "what", "bytes", "why"], &listed) };
    text += &format!(
        "kept {} builds and the {} datasets that they need; {word} {} things, {:.1} MB\n",
        removal.kept_builds.len(),
        removal.needed_datasets,
        removal.removed.len(),
        removal.bytes as f64 / 1e6
    );
    text
}

/// A whole number with a unit.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().map_err(|_| format!("`{text}` is not a time such as 30m"))?;
    let seconds: u64 = match &text[digits..] {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        "" if number == 0 => 1,
        "" => return Err(format!("`{text}` needs a unit: s, m, h or d")),
        unit => return Err(format!("`{unit}` is not a unit; use s, m, h or d")),
    };
    let seconds = number.checked_mul(seconds).filter(|&seconds| seconds < 1 << 40);
    seconds.map(Duration::from_secs).ok_or_else(|| format!("`{text}` is too much"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, seconds) in
            [("0", 0), ("0h", 0), ("90s", 90), ("30m", 1800), ("1h", 3600), ("7d", 604_800)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "h", "5", "-1h", "1.5h", "1w", "1 h", "99999999999999999999s", "99999999999999999d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
