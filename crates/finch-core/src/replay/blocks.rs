//! SEARCH/REPLACE blocks: where they stand in an answer, and whether marker-like text stands elsewhere.
//!
//! Two readings exist. Ours takes a marker only where it has a line of its own, because programs and prose
//! speak of markers too (rulers of equals signs, tests of diff tools). OpenEvolve and SkyDiscover take their
//! markers wherever they stand, in the middle of a line too; what these scaffolds stored can only be
//! understood with theirs. One pass over the lines each; nothing here looks at a parent.

use super::fences::{self, Fences};
use super::mentions;

/// The two halves of a block as they stand between the markers, trailing blanks and line break included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block<'a> {
    pub(super) search: &'a str,
    pub(super) replace: &'a str,
}

/// What a scan of the marker lines finds.
#[derive(Debug, Default)]
pub(super) struct Blocks<'a> {
    /// The well-formed blocks, in order.
    pub(super) list: Vec<Block<'a>>,
    /// Marker-like text that belongs to no block: a stray marker, a cut block, a mention in prose.
    pub(super) stray: bool,
}

#[derive(Clone, Copy)]
enum Marker {
    Search(usize),
    Divide(usize),
    Replace,
}

enum State {
    Outside,
    /// In the SEARCH half: how long the marker's run was, where the half starts.
    Search(usize, usize),
    /// In the REPLACE half: the SEARCH half, where this half starts.
    Replace(usize, (usize, usize), usize),
}

/// The blocks whose markers have lines of their own: from column 0, runs of 5 to 9, blanks after them.
///
/// A SEARCH that opens before the last one closed drops the last one: models break off and start again.
pub(super) fn by_line<'a>(text: &'a str, fences: &Fences<'_>) -> Blocks<'a> {
    let mut blocks = Blocks::default();
    if !mentions(text, "<<<<<") && !mentions(text, ">>>>>") {
        return blocks;
    }
    // Where the first block starts and where the last one ends.
    let (mut first, mut last) = (None, 0);
    let mut opened = 0;
    let mut state = State::Outside;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let (start, next) = (at, at + line.len());
        at = next;
        state = match (state, marker(line)) {
            (State::Outside, Some(Marker::Search(run))) => {
                opened = start;
                State::Search(run, next)
            }
            (_, Some(Marker::Search(run))) => {
                blocks.stray = true;
                opened = start;
                State::Search(run, next)
            }
            // A shorter or longer ruler is the program's own, such as the underline of a heading.
            (State::Search(run, from), Some(Marker::Divide(length))) if length == run || length == 7 => {
                State::Replace(run, (from, start), next)
            }
            (State::Replace(run, search, from), Some(Marker::Divide(length))) => {
                blocks.stray |= length == run || length == 7;
                State::Replace(run, search, from)
            }
            (State::Replace(_, search, from), Some(Marker::Replace)) => {
                first = first.or(Some(opened));
                last = next;
                blocks.list.push(Block { search: &text[search.0..search.1], replace: &text[from..start] });
                State::Outside
            }
            (_, Some(Marker::Replace)) => {
                blocks.stray = true;
                State::Outside
            }
            (State::Outside, _) => {
                blocks.stray |= line.contains("<<<<< SEARCH") || line.contains(">>>>> REPLACE");
                State::Outside
            }
            (state, _) => state,
        };
    }
    blocks.stray |= !matches!(state, State::Outside);
    if let Some(first) = first
        && fences::program_around(text, fences, first, last)
    {
        return Blocks { list: Vec::new(), stray: true };
    }
    blocks
}

/// The blocks as OpenEvolve and SkyDiscover find them: the exact markers, anywhere in a line.
///
/// A ruler `# =======` inside the SEARCH half ends it here.
pub(super) fn anywhere(text: &str) -> Vec<Block<'_>> {
    let mut list = Vec::new();
    let mut rest = text;
    // When one of the three is missing behind a place, it is missing behind every later one too: the loop
    // ends, and no text is looked at twice.
    while let Some((_, inside)) = rest.split_once("<<<<<<< SEARCH\n")
        && let Some((search, inside)) = inside.split_once("=======\n")
        && let Some((replace, behind)) = inside.split_once(">>>>>>> REPLACE")
    {
        list.push(Block { search, replace });
        rest = behind;
    }
    list
}

/// Whether a line is a marker that opens or closes a block: no program has one by chance.
pub(super) fn is_edge(line: &str) -> bool {
    matches!(marker(line), Some(Marker::Search(_) | Marker::Replace))
}

fn marker(line: &str) -> Option<Marker> {
    let line = line.trim_end();
    let first = *line.as_bytes().first()?;
    if !matches!(first, b'<' | b'=' | b'>') {
        return None;
    }
    let run = line.bytes().take_while(|&byte| byte == first).count();
    if !(5..=9).contains(&run) {
        return None;
    }
    match (first, line[run..].trim_start_matches([' ', '\t'])) {
        (b'<', "SEARCH") => Some(Marker::Search(run)),
        (b'=', "") => Some(Marker::Divide(run)),
        (b'>', "REPLACE") => Some(Marker::Replace),
        _ => None,
    }
}
