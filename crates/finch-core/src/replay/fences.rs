//! Fenced blocks and `<CODE>` tags: where an answer holds whole programs.
//!
//! A fence is read by lines, as Markdown is: a closing fence stands alone on its line. Scaffolds are cruder
//! and cut at the next three backticks, even in the middle of a docstring, so their reading is here too
//! ([`cut`]). Nothing here decides which fence a scaffold took.

use super::{blocks, mentions};

/// A fenced block: what follows the opening fence on its line, and the lines up to the closing one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fence<'a> {
    pub(super) info: &'a str,
    pub(super) body: &'a str,
    /// Where the body starts.
    pub(super) at: usize,
}

/// The fences of a text.
#[derive(Debug, Default)]
pub(super) struct Fences<'a> {
    /// The closed ones, in order.
    pub(super) list: Vec<Fence<'a>>,
    /// From the first opening fence to the last closing one, where that holds more than the first fence:
    /// a program whose own text has fences in it.
    pub(super) outer: Option<&'a str>,
    /// The last fence never closes: the answer was cut.
    pub(super) open: bool,
}

struct Line<'a> {
    byte: u8,
    run: usize,
    info: &'a str,
}

/// The fences, by lines.
pub(super) fn by_line(text: &str) -> Fences<'_> {
    let mut fences = Fences::default();
    if !mentions(text, "```") && !mentions(text, "~~~") {
        return fences;
    }
    // The open fence and where its body starts; the very first one, and where its last possible end is.
    let mut open: Option<(Line<'_>, usize)> = None;
    let mut first: Option<(u8, usize)> = None;
    let mut end = None;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let Some(fence) = fence_line(line) else { continue };
        if let Some((byte, _)) = first
            && byte == fence.byte
            && fence.info.is_empty()
        {
            end = Some(start);
        }
        match open.take() {
            None => {
                first = first.or(Some((fence.byte, at)));
                open = Some((fence, at));
            }
            Some((opened, from))
                if opened.byte == fence.byte && fence.run >= opened.run && fence.info.is_empty() =>
            {
                fences.list.push(Fence { info: opened.info, body: &text[from..start], at: from });
            }
            still => open = still,
        }
    }
    fences.open = open.is_some();
    if let (Some((_, from)), Some(to)) = (first, end)
        && fences.list.first().is_none_or(|fence| fence.body.len() < to - from)
    {
        fences.outer = Some(&text[from..to]);
    }
    fences
}

/// The first fence as OpenEvolve and SkyDiscover cut it: three backticks anywhere, up to the next three.
pub(super) fn cut(text: &str) -> Option<&str> {
    let (_, mut rest) = text.split_once("```")?;
    loop {
        let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-_#.".contains(byte);
        let info = rest.bytes().take_while(word).count();
        if let Some(behind) = rest[info..].strip_prefix('\n') {
            return behind.split_once("```").map(|(body, _)| body);
        }
        // Not an opening fence, but three backticks in a sentence.
        (_, rest) = rest.split_once("```")?;
    }
}

/// What stands between the first pair of `<CODE>` tags, without a fence around it.
pub(super) fn code_tag(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<CODE>")?;
    let (code, _) = rest.split_once("</CODE>")?;
    Some(unfenced(code.trim()))
}

/// A text without the fence lines at its two ends.
pub(super) fn unfenced(text: &str) -> &str {
    let mut text = text;
    if let Some((line, rest)) = text.split_once('\n')
        && fence_line(line).is_some()
    {
        text = rest;
    }
    match text.rsplit_once('\n') {
        Some((rest, line)) if fence_line(line).is_some() => rest,
        None if fence_line(text).is_some() => "",
        _ => text,
    }
}

impl Fence<'_> {
    /// Whether this can be a program: it is no patch, and what it holds neither starts nor ends as a block.
    pub(super) fn is_program(&self) -> bool {
        let body = self.body.trim();
        let ends = [body.lines().next(), body.lines().next_back()];
        !matches!(self.info, "diff" | "patch")
            && !body.is_empty()
            && !ends.into_iter().flatten().any(blocks::is_edge)
    }

    /// Whether it is labelled as something that is shown beside a program: its output, a command, data.
    pub(super) fn is_aside(&self) -> bool {
        const ASIDES: [&str; 14] = [
            "bash", "console", "csv", "json", "latex", "log", "markdown", "math", "md", "output", "sh",
            "shell", "text", "yaml",
        ];
        ASIDES.contains(&self.info)
    }
}

/// Whether the span of a text lies in one fence that holds a program around it, before and behind: then
/// the span is text of that program.
///
/// Only an answer with a single fence is judged: models open fences that they do not close, and in such an
/// answer nobody knows which lines are inside.
pub(super) fn program_around(text: &str, fences: &Fences<'_>, from: usize, to: usize) -> bool {
    let [fence] = fences.list[..] else { return false };
    let end = fence.at + fence.body.len();
    if fences.open || from < fence.at || to > end {
        return false;
    }
    !text[fence.at..from].trim().is_empty() && !text[to..end].trim().is_empty()
}

fn fence_line(line: &str) -> Option<Line<'_>> {
    let indent = line.bytes().take_while(|&byte| byte == b' ').count();
    let line = line.get(indent..)?;
    let byte = *line.as_bytes().first()?;
    if indent > 3 || !matches!(byte, b'`' | b'~') {
        return None;
    }
    let run = line.bytes().take_while(|&other| other == byte).count();
    let info = line.get(run..)?.trim();
    // Backticks behind backticks are a span of code in a sentence.
    (run >= 3 && !(byte == b'`' && info.contains('`'))).then_some(Line { byte, run, info })
}
