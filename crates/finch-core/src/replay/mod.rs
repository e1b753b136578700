//! Replay: does an answer, applied to its parent, give the child that was logged?
//!
//! Logs say "this answer made this child", and are wrong now and then: a scaffold retried, fell back to a
//! fuzzy match, or stored a cut answer as if it were a program. Only an answer that replays is a sound
//! training target; and where a log holds no child, replay rebuilds it.
//!
//! Scaffolds read one answer in different ways, and logs rarely say which scaffold of which age wrote them.
//! So an answer has several [`readings`], the most likely first, and the child decides which one was true.
//! [`rebuild`] has no child to ask: it answers only where every scaffold would have made the same text.
//! Everything is compared by canonical text.
//!
//! Nothing here guesses: no similarity, no repair of what a model got wrong. Nothing panics, and the time is
//! linear in the two texts up to a fixed limit, whatever they hold.

mod blocks;
mod evolve;
mod fences;
mod patch;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use memchr::memmem;

use crate::{answer, canon::canonical};
use blocks::{Block, Blocks};
use fences::{Fence, Fences};
use patch::{Match, Patched};

/// How an answer edits its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Edit {
    /// By SEARCH/REPLACE blocks.
    Diff,
    /// By a whole program.
    Rewrite,
    /// Neither is in it: prose, or an answer that was cut.
    Unknown,
}

impl Edit {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Diff => "diff",
            Self::Rewrite => "rewrite",
            Self::Unknown => "unknown",
        }
    }
}

/// A way to read an answer, from the most to the least likely one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// Blocks line by line, first match, trailing blanks of a line not counted.
    Lines,
    /// The same, but trailing blanks count.
    StrictLines,
    /// Blocks line by line, then everything outside the EVOLVE-BLOCK regions put back.
    MergedLines,
    /// Blocks line by line, with their markers found in the middle of lines too.
    InlineMarkers,
    /// Blocks as text inside the EVOLVE-BLOCK regions, where an empty SEARCH appends.
    Regions,
    /// Blocks whose lines match without their indentation; new lines get that of the first one replaced.
    Indented,
    /// The same, but the new lines' own indentation is moved, not added to.
    Rebased,
    /// The first fenced block is the program.
    FirstFence,
    /// The first fenced block, put into the parent's EVOLVE-BLOCK regions.
    MergedFence,
    /// From the first opening fence to the last closing one.
    OuterFence,
    /// The first fence, cut at the next three backticks wherever they stand.
    CutFence,
    /// The last fenced block.
    LastFence,
    /// The longest fenced block.
    LongestFence,
    /// Some other fenced block.
    OtherFence,
    /// The first fenced block with its label as the first line.
    LabelledFence,
    /// The text between `<CODE>` tags.
    CodeTag,
    /// The whole answer, put into the parent's EVOLVE-BLOCK regions.
    MergedWhole,
    /// The whole answer as it is, prose and thinking included.
    Whole,
}

impl How {
    /// All ways, in order.
    pub const ALL: [Self; 18] = [
        Self::Lines,
        Self::StrictLines,
        Self::MergedLines,
        Self::InlineMarkers,
        Self::Regions,
        Self::Indented,
        Self::Rebased,
        Self::FirstFence,
        Self::MergedFence,
        Self::OuterFence,
        Self::CutFence,
        Self::LastFence,
        Self::LongestFence,
        Self::OtherFence,
        Self::LabelledFence,
        Self::CodeTag,
        Self::MergedWhole,
        Self::Whole,
    ];

    /// Whether it gives the same for every parent.
    pub fn needs_no_parent(self) -> bool {
        self.edit() == Edit::Rewrite && !matches!(self, Self::MergedFence | Self::MergedWhole)
    }

    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::StrictLines => "strict_lines",
            Self::InlineMarkers => "inline_markers",
            Self::MergedLines => "merged_lines",
            Self::Regions => "regions",
            Self::Indented => "indented",
            Self::Rebased => "rebased",
            Self::FirstFence => "first_fence",
            Self::MergedFence => "merged_fence",
            Self::OuterFence => "outer_fence",
            Self::CutFence => "cut_fence",
            Self::LastFence => "last_fence",
            Self::LongestFence => "longest_fence",
            Self::OtherFence => "other_fence",
            Self::LabelledFence => "labelled_fence",
            Self::CodeTag => "code_tag",
            Self::MergedWhole => "merged_whole",
            Self::Whole => "whole",
        }
    }

    /// The kind of edit it takes the answer for.
    pub fn edit(self) -> Edit {
        if self <= Self::Rebased { Edit::Diff } else { Edit::Rewrite }
    }
}

/// What an answer gives in one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The way it was read.
    pub how: How,
    /// The child in this reading, as canonical text.
    pub text: String,
    /// Blocks that matched; 0 for a rewrite.
    pub applied: usize,
    /// Blocks that did not match and were passed over; 0 for a rewrite.
    pub missed: usize,
}

/// The verdict of [`replay`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Replay {
    /// This reading gives the child.
    Exact(How),
    /// The answer edits, but no reading gives the child.
    Inexact,
    /// There is nothing to replay: the answer holds no edit, or blocks without a parent to apply them to.
    None,
}

/// What [`replay`] finds out about a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the answer gives the child.
    pub replay: Replay,
    /// How the answer edits: from the exact reading, else as [`edit`] says.
    pub edit: Edit,
    /// The answer gives the parent back, in full: no block of it failed. From the exact reading, else from
    /// the most likely one.
    pub no_op: bool,
    /// Blocks that matched the parent; 0 for a rewrite.
    pub applied: usize,
    /// Blocks that did not: the failed SEARCH halves.
    pub missed: usize,
    /// The answer holds marker-like text outside well-formed blocks.
    pub marker_like: bool,
}

/// How an answer edits its parent, by content alone: scaffolds label full rewrites as diffs.
///
/// Thinking does not count.
pub fn edit(response: &str) -> Edit {
    let response = line_feeds(answer::split(response).response);
    Found::of(&response).edit()
}

/// What stands in an answer without its thinking, found once for all that is to be known of it.
struct Found<'a> {
    text: &'a str,
    blocks: Blocks<'a>,
    fences: Fences<'a>,
}

impl<'a> Found<'a> {
    fn of(text: &'a str) -> Self {
        let fences = fences::by_line(text);
        Self { text, blocks: blocks::by_line(text, &fences), fences }
    }

    fn edit(&self) -> Edit {
        if !self.blocks.list.is_empty() {
            return Edit::Diff;
        }
        let fenced = self.fences.list.iter().any(Fence::is_program);
        let cut = || fences::cut(self.text).is_some_and(|body| Fence { info: "", body, at: 0 }.is_program());
        let tagged = || fences::code_tag(self.text).is_some_and(|code| !code.is_empty());
        if fenced || cut() || tagged() { Edit::Rewrite } else { Edit::Unknown }
    }
}

/// The readings of an answer, of equal parts one. Without a parent there are no diffs and nothing is merged.
pub fn readings(parent: Option<&str>, response: &str) -> Vec<Reading> {
    let mut list = Vec::new();
    let logged = line_feeds(response);
    visit(parent, &logged, &Found::of(answer::split(&logged).response), &mut |reading| {
        list.push(reading);
        false
    });
    list
}

/// Whether an answer, applied to its parent, gives the child.
///
/// `response` is the answer as it was logged, or what follows its thinking. `is_child` is given canonical
/// text and says whether it is the child's.
pub fn replay(parent: Option<&str>, response: &str, is_child: impl Fn(&str) -> bool) -> Outcome {
    let logged = line_feeds(response);
    let found = Found::of(answer::split(&logged).response);
    let by_content = found.edit();
    let mut likely: Option<Reading> = None;
    let mut exact: Option<Reading> = None;
    visit(parent, &logged, &found, &mut |reading| {
        if is_child(&reading.text) {
            exact = Some(reading);
        } else if likely.is_none() && reading.how.edit() == by_content && reading.how < How::MergedWhole {
            // The whole answer is a reading of every answer: only the child can make it the true one.
            likely = Some(reading);
        }
        exact.is_some()
    });
    let (verdict, kind) = match &exact {
        Some(exact) if by_content == Edit::Unknown && exact.how == How::Whole => {
            // A cut answer that the scaffold stored as the program: it replays, but it is no edit.
            (Replay::Exact(exact.how), Edit::Unknown)
        }
        Some(exact) => (Replay::Exact(exact.how), exact.how.edit()),
        None if by_content == Edit::Unknown => (Replay::None, by_content),
        None if by_content == Edit::Diff && parent.is_none() => (Replay::None, by_content),
        None => (Replay::Inexact, by_content),
    };
    let told = exact.or(likely);
    let is_parent = |text: &str| parent.is_some_and(|parent| canonical(parent) == text);
    Outcome {
        replay: verdict,
        edit: kind,
        no_op: told.as_ref().is_some_and(|told| told.missed == 0 && is_parent(&told.text)),
        applied: told.as_ref().map_or(0, |told| told.applied),
        missed: told.as_ref().map_or(0, |told| told.missed),
        marker_like: found.blocks.stray,
    }
}

/// The child of a parent where the log does not hold it, as canonical text.
///
/// Only where nothing is left to choose: every block matches its lines exactly, or there is one program in
/// one fence, and no scaffold would have made another text of it.
pub fn rebuild(parent: &str, response: &str) -> Option<String> {
    let parent = line_feeds(parent);
    let (text, found) = rebuild_one(&parent, response)?;
    if found.is_empty() {
        return Some(text);
    }
    let same = |other: String| canonical(&other) == text;
    let sure = patch::lines(&parent, &found, Match::Indented).text.is_some_and(same)
        && patch::within_regions(&parent, &found).is_none_or(same);
    sure.then_some(text)
}

/// [`rebuild`] for a run that is known to apply blocks by the rule of stock OpenEvolve and SkyDiscover
/// ([`How::Lines`]), from its scaffold or from its steps with a logged child. It answers more often: the
/// rules of scaffolds that move the indentation of blocks do not count.
pub fn rebuild_by_lines(parent: &str, response: &str) -> Option<String> {
    rebuild_one(&line_feeds(parent), response).map(|(text, _)| text)
}

/// The child by the common rules, and the blocks it was made of as far as they are to be judged further.
fn rebuild_one<'a>(parent: &str, response: &'a str) -> Option<(String, Vec<Block<'a>>)> {
    let split = answer::split(response);
    // Some scaffolds look for programs in the thinking too, and some do not see markers before CRLF.
    let thinking = split.reasoning.unwrap_or("");
    if thinking.contains("```") || thinking.contains("<<<<<<<") || split.response.contains('\r') {
        return None;
    }
    let fences = fences::by_line(split.response);
    let found = blocks::by_line(split.response, &fences);
    // A whole program beside blocks: which of the two a scaffold takes depends on its settings.
    let beside = || fences.list.iter().any(Fence::is_program);
    let text = if found.list.is_empty() {
        the_program(split.response, &fences)?
    } else if beside() || blocks::anywhere(split.response) != found.list {
        return None;
    } else {
        let patched = patch::lines(parent, &found.list, Match::Trimmed);
        let sure = patched.missed == 0 && !patched.loose && !patched.empty;
        canonical_of(patched.text.filter(|_| sure)?)
    };
    // Some scaffolds put back what lies outside the regions.
    let kept = !evolve::has_markers(parent)
        || evolve::merge(parent, &text).is_some_and(|merged| canonical(&merged) == text);
    (kept && !found.stray).then_some((text, found.list))
}

/// The one program that an answer holds, in one fence.
fn the_program(response: &str, fences: &Fences<'_>) -> Option<String> {
    // One fence is the program whatever its label; of several, the others must be labelled otherwise, and
    // stand behind it: a scaffold that does not find the label it wants takes the first.
    let alone = fences.list.len() == 1;
    let mut programs = fences.list.iter().filter(|fence| fence.is_program() && (alone || !fence.is_aside()));
    let (Some(program), None) = (programs.next(), programs.next()) else { return None };
    let text = canonical(program.body.trim()).into_owned();
    let same = |other: Option<&str>| other.is_none_or(|other| canonical(other.trim()) == text);
    let sure = !fences.open
        && fences.list.first() == Some(program)
        && same(fences::cut(response))
        && (!alone || same(fences.outer))
        && same(fences::code_tag(response));
    sure.then_some(text)
}

/// Hands out the readings of an answer, until `seen` says that one is enough. `logged` is all of it, thinking included.
fn visit(parent: Option<&str>, logged: &str, found: &Found<'_>, seen: &mut dyn FnMut(Reading) -> bool) {
    let parent = parent.map(line_feeds);
    let parent = parent.as_deref();
    let mut visit = |found: &Found<'_>| {
        parent.is_some_and(|parent| visit_diffs(parent, found, seen))
            || visit_rewrites(parent, found, seen)
            || seen(Reading {
                how: How::Whole,
                text: canonical(found.text).into_owned(),
                applied: 0,
                missed: 0,
            })
    };
    // Scaffolds that do not know of thinking read it as part of the answer.
    if !visit(found) && found.text.len() < logged.len() {
        visit(&Found::of(logged));
    }
}

fn visit_diffs(parent: &str, found: &Found<'_>, seen: &mut dyn FnMut(Reading) -> bool) -> bool {
    let inline = blocks::anywhere(found.text);
    let found = &found.blocks.list;
    let mut see = |how: How, patched: Patched| {
        let Patched { text: Some(text), applied, missed, .. } = patched else { return false };
        seen(Reading { how, text: canonical_of(text), applied, missed })
    };
    if !found.is_empty() {
        let trimmed = patch::lines(parent, found, Match::Trimmed);
        let (loose, applied, missed) = (trimmed.loose, trimmed.applied, trimmed.missed);
        let text = trimmed.text.clone();
        let merged = || {
            let text = text.as_deref().and_then(|text| evolve::merge(parent, text));
            Patched { text, applied, missed, loose, empty: false }
        };
        if see(How::Lines, trimmed)
            || (loose && see(How::StrictLines, patch::lines(parent, found, Match::Strict)))
            || see(How::MergedLines, merged())
        {
            return true;
        }
    }
    if !inline.is_empty() && inline != *found {
        let patched = patch::lines(parent, &inline, Match::Trimmed);
        if see(How::InlineMarkers, patched) {
            return true;
        }
    }
    let found: &[Block<'_>] = if found.is_empty() { &inline } else { found };
    if found.is_empty() {
        return false;
    }
    if let Some(text) = patch::within_regions(parent, found)
        && see(How::Regions, Patched::whole(text, found.len()))
    {
        return true;
    }
    see(How::Indented, patch::lines(parent, found, Match::Indented))
        || see(How::Rebased, patch::lines(parent, found, Match::Rebased))
}

fn visit_rewrites(parent: Option<&str>, found: &Found<'_>, seen: &mut dyn FnMut(Reading) -> bool) -> bool {
    let Found { text, fences, .. } = found;
    let bodies = || fences.list.iter().map(|fence| fence.body.trim()).filter(|body| !body.is_empty());
    let first = bodies().next();
    let merge = |rewrite: Option<&str>| evolve::merge(parent?, rewrite?);
    let labelled = || {
        let first = fences.list.first().filter(|fence| !fence.info.is_empty())?;
        Some(format!("{}\n{}", first.info, first.body))
    };
    let mut rewrites = Rewrites { seen, told: Vec::new() };
    rewrites.part(How::FirstFence, first)
        || rewrites.made(How::MergedFence, merge(first))
        || rewrites.part(How::OuterFence, fences.outer.map(str::trim))
        || rewrites.part(How::CutFence, fences::cut(text).map(str::trim))
        || rewrites.part(How::LastFence, bodies().next_back())
        || rewrites.part(How::LongestFence, bodies().max_by_key(|body| body.len()))
        || bodies().any(|body| rewrites.part(How::OtherFence, Some(body)))
        || rewrites.made(How::LabelledFence, labelled())
        || rewrites.part(How::CodeTag, fences::code_tag(text))
        || rewrites.made(How::MergedWhole, merge(Some(text)))
}

/// Programs that an answer may hold, handed out one after another.
struct Rewrites<'a, 's> {
    seen: &'s mut dyn FnMut(Reading) -> bool,
    told: Vec<&'a str>,
}

/// Parts that are remembered: few answers hold more programs, and looking through many takes long.
const MOST_TOLD: usize = 8;

impl<'a> Rewrites<'a, '_> {
    /// A part of the answer. Most answers have one, which most ways find: it is handed out once.
    fn part(&mut self, how: How, text: Option<&'a str>) -> bool {
        let Some(text) = text.filter(|text| !self.told.contains(text)) else { return false };
        if self.told.len() < MOST_TOLD {
            self.told.push(text);
        }
        self.made(how, Some(text.to_owned()))
    }

    /// What was made of a part.
    fn made(&mut self, how: How, text: Option<String>) -> bool {
        text.is_some_and(|text| (self.seen)(Reading { how, text: canonical_of(text), applied: 0, missed: 0 }))
    }
}

/// The canonical form of a text that most often has it already.
fn canonical_of(text: String) -> String {
    match canonical(&text) {
        Cow::Borrowed(same) if same.len() == text.len() => text,
        other => other.into_owned(),
    }
}

/// Whether something stands in a text: answers are long, and the standard library looks slowly.
fn mentions(text: &str, what: &str) -> bool {
    memmem::find(text.as_bytes(), what.as_bytes()).is_some()
}

/// A text with LF at its line ends, as canonical text has them.
fn line_feeds(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    }
}
