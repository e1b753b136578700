//! The regions between EVOLVE-BLOCK-START and EVOLVE-BLOCK-END, and a rewrite put into its parent's.
//!
//! ShinkaEvolve, newer OpenEvolve and noema keep everything outside these regions as the parent has it,
//! whatever the model wrote there. All of it is by lines: the marker lines stay the parent's.

use std::ops::Range;

use super::mentions;

/// What every marker holds; a look at a whole text for it is cheaper than one at each line.
const MARK: &str = "EVOLVE-BLOCK-";

/// What stands between the markers of a text.
pub(super) enum Regions {
    /// The lines of each region, without the marker lines. Empty: there are no markers.
    Paired(Vec<Range<usize>>),
    /// One marker alone: where it stands, and whether it is the start.
    Half { at: usize, start: bool },
    /// Nested or unmatched. From the last start to the first end, if these are in order: Shinka's first
    /// region.
    Broken(Option<Range<usize>>),
}

/// The regions of a text, by the numbers of its lines.
pub(super) fn regions(lines: &[&str]) -> Regions {
    let markers: Vec<(usize, bool)> =
        lines.iter().enumerate().filter_map(|(at, line)| Some((at, marker(line)?))).collect();
    if let [(at, start)] = markers[..] {
        return Regions::Half { at, start };
    }
    let mut list = Vec::with_capacity(markers.len() / 2);
    for pair in markers.chunks(2) {
        match *pair {
            [(from, true), (to, false)] => list.push(from + 1..to),
            _ => {
                let last = markers.iter().rev().find(|(_, start)| *start);
                let first = markers.iter().find(|(_, start)| !*start);
                let inner = last.zip(first).map(|((from, _), (to, _))| from + 1..*to);
                return Regions::Broken(inner.filter(|inner| inner.start <= inner.end));
            }
        }
    }
    Regions::Paired(list)
}

/// The bytes of each region of a text, marker lines left out; none if the markers do not pair.
pub(super) fn spans(text: &str) -> Vec<Range<usize>> {
    if !mentions(text, MARK) {
        return Vec::new();
    }
    let mut list = Vec::new();
    let mut open = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        match (marker(line), open) {
            (Some(true), None) => open = Some(at),
            (Some(false), Some(from)) => {
                list.push(from..start);
                open = None;
            }
            (Some(_), _) => return Vec::new(),
            (None, _) => {}
        }
    }
    if open.is_some() { Vec::new() } else { list }
}

/// Whether a text has a marker line at all.
pub(super) fn has_markers(text: &str) -> bool {
    mentions(text, MARK) && text.lines().any(|line| marker(line).is_some())
}

/// The parent with its regions from a rewrite. `None`: the parent has no regions, or the markers of the two
/// do not tell which text goes where.
pub(super) fn merge(parent: &str, rewrite: &str) -> Option<String> {
    if !mentions(parent, MARK) {
        return None;
    }
    let parent: Vec<&str> = parent.lines().collect();
    let rewrite: Vec<&str> = rewrite.lines().collect();
    let Regions::Paired(into) = regions(&parent) else { return None };
    let only = match &into[..] {
        [] => return None,
        [only] => Some(only),
        _ => None,
    };
    let found = match regions(&rewrite) {
        Regions::Broken(inner) => {
            only?;
            vec![inner?]
        }
        Regions::Paired(list) if !list.is_empty() => list,
        Regions::Paired(_) => {
            let only = only?;
            vec![unframed(&rewrite, &parent[..only.start - 1], &parent[only.end + 1..])]
        }
        Regions::Half { at, start: true } => {
            let length = unframed(&rewrite[at + 1..], &[], &parent[only?.end + 1..]).len();
            let after = at + 1..at + 1 + length;
            vec![after]
        }
        Regions::Half { at, start: false } => {
            vec![unframed(&rewrite[..at], &parent[..only?.start - 1], &[])]
        }
    };
    let mut merged: Vec<&str> = Vec::with_capacity(parent.len() + rewrite.len());
    let mut kept = 0;
    for (into, from) in into.iter().zip(found) {
        merged.extend(&parent[kept..into.start]);
        merged.extend(&rewrite[from]);
        kept = into.end;
    }
    merged.extend(&parent[kept..]);
    Some(merged.join("\n"))
}

/// A rewrite without the lines that it repeats from around the parent's region. Each end is judged alone
/// where only one is asked for; with both, both must be there.
fn unframed(lines: &[&str], head: &[&str], tail: &[&str]) -> Range<usize> {
    let same = |a: &[&str], b: &[&str]| a.iter().zip(b).all(|(a, b)| a.trim_end() == b.trim_end());
    let tail_blank = tail.iter().rev().take_while(|line| line.trim().is_empty()).count();
    let tail = &tail[..tail.len() - tail_blank];
    let blank = lines.iter().rev().take_while(|line| line.trim().is_empty()).count();
    let end = if tail.is_empty() { lines.len() } else { lines.len() - blank };
    let framed = head.len() + tail.len() <= end
        && same(&lines[..head.len()], head)
        && same(&lines[end - tail.len()..end], tail);
    if framed { head.len()..end - tail.len() } else { 0..lines.len() }
}

/// Whether a line is a marker, and which: `true` starts a region. Only signs of a comment may stand before.
fn marker(line: &str) -> Option<bool> {
    let (before, behind) = line.split_once(MARK)?;
    if before.chars().any(|sign| sign.is_alphanumeric() || sign == '_') {
        return None;
    }
    if behind.starts_with("START") { Some(true) } else { behind.starts_with("END").then_some(false) }
}

/// A text without its marker lines: Shinka empties them in a patch.
pub(super) fn unmarked(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(|line| marker(line).map_or(line.trim_end(), |_| "")).collect();
    lines.join("\n")
}
