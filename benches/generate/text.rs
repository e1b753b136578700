//! Numbers and text that follow from a seed: lines of programs, prose, lengths.
//!
//! No clock, no machine and no floating-point library decides a byte, so the same arguments give the same logs
//! everywhere.

use std::fmt::Write as _;

/// Nouns and verbs that names are made of; as few as in real programs, so that the text compresses like them.
const WORDS: [&str; 64] = [
    "area", "array", "balance", "best", "block", "bound", "cache", "center", "chain", "choose", "circle",
    "clock", "cost", "count", "cut", "delta", "depth", "edge", "energy", "error", "field", "flow", "gap",
    "grid", "group", "index", "item", "job", "keep", "key", "layer", "length", "limit", "line", "load",
    "local", "margin", "move", "node", "order", "pack", "pair", "path", "place", "point", "queue", "radius",
    "random", "range", "rate", "result", "route", "score", "seed", "shift", "size", "slot", "state", "step",
    "swap", "tour", "value", "weight", "window",
];

/// What models say around their code.
const PHRASES: [&str; 24] = [
    "The current version spends most of its time in the inner loop.",
    "A smaller step near the end should help.",
    "I keep the interface as it is.",
    "This removes a redundant pass over the points.",
    "Sorting first makes the greedy choice better.",
    "The bound is loose, so I tighten it.",
    "Restarts from the best state avoid local optima.",
    "The score rises when the margin falls.",
    "Earlier attempts changed too much at once.",
    "I replace the fixed schedule by one that adapts.",
    "Caching the distances saves work.",
    "This trades a little time for a better result.",
    "The constraint is checked before the move is accepted.",
    "A perturbation of two elements is enough here.",
    "The previous attempt failed with an index error, which I fix.",
    "Ties are broken by the lower index.",
    "The temperature now falls geometrically.",
    "I add a final local search.",
    "The initial layout uses rows of alternating offset.",
    "Numerical noise is handled with a tolerance.",
    "The rest of the program is unchanged.",
    "This should raise the fitness without more evaluations.",
    "Large moves come first, small ones later.",
    "I keep a list of candidates instead of a single one.",
];

/// A stream of numbers: BLAKE3's extendable output under a seed and a purpose.
pub(crate) struct Random {
    stream: blake3::OutputReader,
    buffer: [u8; 4096],
    at: usize,
}

impl Random {
    /// The stream of a seed; another purpose or number gives an unrelated one.
    pub(crate) fn new(seed: u64, purpose: &str, number: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("finch benches generate 1");
        hasher.update(&seed.to_le_bytes()).update(&number.to_le_bytes()).update(purpose.as_bytes());
        Self { stream: hasher.finalize_xof(), buffer: [0; 4096], at: 4096 }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        if self.at == self.buffer.len() {
            self.stream.fill(&mut self.buffer);
            self.at = 0;
        }
        let mut word = [0; 8];
        word.copy_from_slice(&self.buffer[self.at..self.at + 8]);
        self.at += 8;
        u64::from_le_bytes(word)
    }

    /// A number below a bound, which is not 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.bits()) * bound as u128) >> 64) as usize
    }

    /// Whether something happens that happens in so many of 100 cases.
    pub(crate) fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A length: each octave between the two is equally likely, so short ones are common and long ones occur.
    pub(crate) fn length(&mut self, low: usize, high: usize) -> usize {
        let low = low.max(1);
        let octaves = (high / low).max(1).ilog2() as usize;
        let octave = low << self.below(octaves + 1);
        (octave + self.below(octave)).min(high.max(low))
    }

    /// One of some.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// A UUID of version 4.
    pub(crate) fn uuid(&mut self) -> String {
        let bits = (u128::from(self.bits()) << 64) | u128::from(self.bits());
        let bits = bits & !(0xf << 76) & !(0x3 << 62) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{bits:032x}");
        format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// A line of a program.
pub(crate) fn line(random: &mut Random) -> String {
    let mut word = || random.pick(&WORDS);
    let (a, b, c, d) = (word(), word(), word(), word());
    let (n, m) = (random.below(100), random.below(10_000));
    match random.below(10) {
        0 => format!("def {a}_{b}({c}, {d}={n}):"),
        1 => format!("    \"\"\"The {a} of each {b} after the {c}.\"\"\""),
        2 => format!("    for {a} in range({n}, len({b})):"),
        3 => format!("        if {a}_{b}[{n}] < 0.{m:04} * {c}:"),
        4 => format!("            {a}_{b} += {c}.{d}({n})"),
        5 => format!("    {a}_{b} = {c}_{d}({a}, 0.{m:04})"),
        6 => format!("    # {a} {b} before {c}: {m} was too much"),
        7 => format!("        {a}[{n}], {b}[{n}] = {b}[{n}], {a}[{n}]"),
        8 => format!("    return {a}_{b} - {c}"),
        _ => String::new(),
    }
}

/// Lines of a program, of about so many bytes.
pub(crate) fn lines(random: &mut Random, bytes: usize) -> Vec<String> {
    let (mut lines, mut length) = (vec!["import math".to_owned(), "import random".to_owned()], 26);
    while length < bytes {
        let line = line(random);
        length += line.len() + 1;
        lines.push(line);
    }
    lines
}

/// Prose of about so many bytes.
pub(crate) fn prose(random: &mut Random, bytes: usize) -> String {
    let mut text = String::new();
    while text.len() < bytes {
        let (phrase, word) = (random.pick(&PHRASES), random.pick(&WORDS));
        let _ = write!(text, "{phrase} See `{word}_{}`. ", random.below(1000));
        if random.percent(15) {
            text.push('\n');
        }
    }
    text
}
