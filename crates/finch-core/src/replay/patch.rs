//! Blocks applied to a parent, in the ways that scaffolds apply them.
//!
//! One after another, each to the result so far, each at its first match; a block that does not match is
//! passed over. Lines become numbers first, so that comparing two is one step whatever their length, and a
//! block with a line that the text lacks costs its own length only. What still would take quadratic time
//! (many blocks that all match in a large parent) runs into a limit and is given up: a real answer has a few
//! dozen blocks.

use std::{borrow::Cow, collections::HashMap};

use foldhash::fast::RandomState;

use super::{blocks::Block, evolve, fences};

/// When two lines are the same, and what happens to the new ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    /// Byte for byte.
    Strict,
    /// Trailing blanks do not count.
    Trimmed,
    /// Blanks at both ends do not count. Each half is stripped as a whole, of fences too, and every new line
    /// gets the indentation of the first line replaced: noema's rule.
    Indented,
    /// As before, but the halves keep their own indentation, and it is moved to that of the first line
    /// replaced: Shinka's rule.
    Rebased,
}

/// A parent after some blocks.
#[derive(Debug)]
pub(super) struct Patched {
    /// `None`: given up.
    pub(super) text: Option<String>,
    pub(super) applied: usize,
    pub(super) missed: usize,
    /// A line was taken for another one that differs in blanks.
    pub(super) loose: bool,
    /// A SEARCH half was empty.
    pub(super) empty: bool,
}

impl Patched {
    /// A text that all of the blocks made.
    pub(super) fn whole(text: String, blocks: usize) -> Self {
        Self { text: Some(text), applied: blocks, missed: 0, loose: false, empty: false }
    }
}

/// Steps that one patch may take. A parent of 10,000 lines and 100 blocks need a million at the very worst.
const STEPS: usize = 1 << 23;

struct Line<'a> {
    text: Cow<'a, str>,
    key: u32,
}

#[derive(Default)]
struct Keys<'a> {
    numbers: HashMap<&'a str, u32, RandomState>,
    /// How often each number stands in the text now.
    counts: Vec<usize>,
}

impl<'a> Keys<'a> {
    fn of(&mut self, rule: Match, line: &'a str) -> u32 {
        let line = match rule {
            Match::Strict => line,
            Match::Trimmed => line.trim_end(),
            Match::Indented | Match::Rebased => line.trim(),
        };
        let next = self.counts.len() as u32;
        let key = *self.numbers.entry(line).or_insert(next);
        if key == next {
            self.counts.push(0);
        }
        key
    }

    fn count(&mut self, key: u32) -> &mut usize {
        &mut self.counts[key as usize]
    }
}

/// The parent after the blocks, line by line.
pub(super) fn lines(parent: &str, blocks: &[Block<'_>], rule: Match) -> Patched {
    let mut keys = Keys::default();
    let mut text: Vec<Line<'_>> = Vec::new();
    for line in parent.split('\n') {
        let key = keys.of(rule, line);
        *keys.count(key) += 1;
        text.push(Line { text: Cow::Borrowed(line), key });
    }
    let mut patched = Patched { text: None, applied: 0, missed: 0, loose: false, empty: false };
    let mut steps = STEPS;
    for block in blocks {
        let [search, replace] = [block.search, block.replace].map(|half| match rule {
            Match::Indented => fences::unfenced(half.trim()).trim(),
            _ => half.trim_end(),
        });
        patched.empty |= search.trim().is_empty();
        let old: Vec<(&str, u32)> = search.split('\n').map(|line| (line, keys.of(rule, line))).collect();
        let Some(found) = find(&text, &old, &keys, &mut steps) else {
            patched.missed += 1;
            continue;
        };
        let end = found + old.len();
        let same = text[found..end].iter().zip(&old).all(|(line, old)| line.text == old.0);
        patched.loose |= !same;
        for line in &text[found..end] {
            *keys.count(line.key) -= 1;
        }
        let mut new: Vec<Line<'_>> = Vec::new();
        let margin = match rule {
            Match::Indented => indent(&text[found].text).to_owned(),
            Match::Rebased if !same => indent(&text[found].text).to_owned(),
            _ => String::new(),
        };
        let base = match rule {
            Match::Rebased if !same => Some(
                replace.lines().find(|line| !line.trim().is_empty()).map_or(0, |line| indent(line).len()),
            ),
            _ => None,
        };
        for line in replace.split('\n') {
            let key = keys.of(rule, line);
            *keys.count(key) += 1;
            let text = match base {
                _ if line.trim().is_empty() => Cow::Borrowed(line),
                Some(base) => {
                    let depth = indent(line).len().saturating_sub(base);
                    Cow::Owned(format!("{margin}{}{}", " ".repeat(depth), line.trim_start()))
                }
                None if margin.is_empty() => Cow::Borrowed(line),
                None => Cow::Owned(format!("{margin}{line}")),
            };
            new.push(Line { text, key });
            // Margins repeat, so that here the result can outgrow the input.
            steps = steps.saturating_sub(margin.len());
            if steps == 0 {
                break;
            }
        }
        if new.len() != old.len() {
            steps = steps.saturating_sub((text.len() - end) / 4);
        }
        text.splice(found..end, new);
        patched.applied += 1;
        if steps == 0 {
            break;
        }
    }
    if steps == 0 {
        patched.missed = blocks.len() - patched.applied;
        return patched;
    }
    let mut out = String::with_capacity(text.iter().map(|line| line.text.len() + 1).sum());
    for (number, line) in text.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        out.push_str(&line.text);
    }
    patched.text = Some(out);
    patched
}

/// The first place where the lines stand; `steps` is left at 0 when the search was given up.
fn find(text: &[Line<'_>], old: &[(&str, u32)], keys: &Keys<'_>, steps: &mut usize) -> Option<usize> {
    if old.len() > text.len() || old.iter().any(|line| keys.counts[line.1 as usize] == 0) {
        return None;
    }
    for at in 0..=text.len() - old.len() {
        let same = text[at..].iter().zip(old).take_while(|(line, old)| line.key == old.1).count();
        *steps = steps.saturating_sub(same + 1);
        if same == old.len() {
            return Some(at);
        }
        if *steps == 0 {
            return None;
        }
    }
    None
}

fn without_blank_ends(half: &str) -> &str {
    let half = half.trim_end();
    let text = half.len() - half.trim_start().len();
    &half[half[..text].rfind('\n').map_or(0, |at| at + 1)..]
}

fn indent(line: &str) -> &str {
    &line[..line.len() - line.trim_start().len()]
}

/// The parent after the blocks, as Shinka applies them: a SEARCH half is text that may start and end inside
/// a line, it must lie in an EVOLVE-BLOCK region, and an empty one appends to the last region.
///
/// All or nothing: Shinka drops an answer of which one block fails.
pub(super) fn within_regions(parent: &str, blocks: &[Block<'_>]) -> Option<String> {
    let mut text = parent.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    // Scanning bytes is cheaper than comparing lines by number.
    let mut bytes = 4 * STEPS;
    for block in blocks {
        bytes = bytes.checked_sub(text.len())?;
        let spans = evolve::spans(&text);
        // Blank lines at both ends of a half count as part of the markers.
        let [search, replace] =
            [block.search, block.replace].map(|half| evolve::unmarked(without_blank_ends(half)));
        if search.trim().is_empty() {
            let end = spans.last()?.end;
            if !replace.is_empty() {
                text.insert_str(end, &format!("{replace}\n"));
            }
            continue;
        }
        let at = text.find(&search)?;
        let end = at + search.len();
        // The region's last line break belongs to it, but a SEARCH half never ends with one.
        if !spans.iter().any(|span| span.start <= at && end <= span.end) {
            return None;
        }
        text.replace_range(at..end, &replace);
    }
    Some(text)
}
