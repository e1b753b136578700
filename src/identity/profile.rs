//! What is known of a task: what nearly all of its programs and prompts have in common, and what its evaluator reports.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::near::tokens::{as_set, tokens};

/// What a task is compared by. Sets of words are hashes in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// The task's name.
    pub task: String,
    /// The scaffolds that searched it.
    pub scaffolds: BTreeSet<String>,
    /// What names the initial program, and its words.
    pub initial: Option<(String, Vec<u64>)>,
    /// Words that nearly all programs have: what the evaluator asks for, and the problem's constants.
    pub interface: Vec<u64>,
    /// Whole numbers of two digits or more that nearly all programs have: sizes, such as the 26 of 26 circles.
    pub sizes: BTreeSet<u64>,
    /// Words that nearly all system prompts have.
    pub prompts: Vec<u64>,
    /// Metrics that are numbers and not the same for all programs.
    pub metrics: BTreeSet<String>,
    /// The lowest and the highest score of valid programs, by the metric that is judged.
    pub scores: BTreeMap<String, (f64, f64)>,
}

/// A task's programs and prompts, of which a profile is made.
#[derive(Clone, Debug, Default)]
pub struct Sampled {
    programs: Common<u64>,
    numbers: Common<u64>,
    prompts: Common<u64>,
    metrics: BTreeMap<String, Values>,
}

/// How many of so many texts have a word.
#[derive(Clone, Debug)]
struct Common<T> {
    texts: usize,
    counts: HashMap<T, usize, foldhash::fast::FixedState>,
}

impl<T> Default for Common<T> {
    fn default() -> Self {
        Self { texts: 0, counts: HashMap::default() }
    }
}

impl<T: std::hash::Hash + Eq + Ord> Common<T> {
    fn add(&mut self, set: impl IntoIterator<Item = T>) {
        self.texts += 1;
        for item in set {
            *self.counts.entry(item).or_default() += 1;
        }
    }

    /// What four of five have, in order.
    fn of_nearly_all(self) -> Vec<T> {
        let texts = self.texts;
        let mut common: Vec<T> = self
            .counts
            .into_iter()
            .filter(|(_, count)| 5 * count >= 4 * texts)
            .map(|(item, _)| item)
            .collect();
        common.sort_unstable();
        common
    }
}

/// A metric's values so far.
#[derive(Clone, Copy, Debug)]
struct Values {
    first: f64,
    differ: bool,
}

impl Sampled {
    /// Adds a program and what its evaluator reported, which is JSON.
    pub fn program(&mut self, code: &str, metrics: Option<&str>) {
        self.programs.add(words(code));
        self.numbers.add(sizes(code));
        let metrics = metrics.and_then(|json| serde_json::from_str(json).ok());
        let Some(serde_json::Value::Object(metrics)) = metrics else { return };
        for (name, value) in metrics {
            let Some(value) = value.as_f64() else { continue };
            let values = self.metrics.entry(name).or_insert(Values { first: value, differ: false });
            values.differ |= values.first.to_bits() != value.to_bits();
        }
    }

    /// Adds a system prompt.
    pub fn prompt(&mut self, text: &str) {
        self.prompts.add(words(text));
    }

    /// The profile of these.
    pub fn profile(self, task: &str) -> Profile {
        let differing = self.metrics.into_iter().filter(|(_, values)| values.differ);
        Profile {
            task: task.to_owned(),
            interface: self.programs.of_nearly_all(),
            sizes: self.numbers.of_nearly_all().into_iter().collect(),
            prompts: self.prompts.of_nearly_all(),
            metrics: differing.map(|(name, _)| name).collect(),
            ..Profile::default()
        }
    }
}

/// The words of a text, whatever their case, as hashes in order.
pub fn words(text: &str) -> Vec<u64> {
    let mut words = Vec::new();
    tokens(&text.to_lowercase(), &mut words);
    as_set(&mut words);
    words
}

/// Whole numbers of two to nine digits that stand alone: no part of a name or of a fraction. Powers of ten are left out:
/// they are limits and steps in all kinds of programs.
fn sizes(text: &str) -> BTreeSet<u64> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let bytes = text.as_bytes();
    let (mut found, mut at) = (BTreeSet::new(), 0);
    while at < bytes.len() {
        if !is_part(bytes[at]) {
            at += 1;
            continue;
        }
        let start = at;
        at += bytes[at..].iter().take_while(|byte| is_part(**byte)).count();
        let is_fraction = bytes[..start].ends_with(b".")
            || (bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit));
        let digits = &bytes[start..at];
        let is_whole = digits.iter().all(u8::is_ascii_digit) && (2..=9).contains(&digits.len());
        let is_round = digits.starts_with(b"1") && digits[1..].iter().all(|digit| *digit == b'0');
        if is_whole && digits[0] != b'0' && !is_round && !is_fraction {
            found.extend(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_whole_numbers_that_stand_alone() {
        let found = |text: &str| sizes(text).into_iter().collect::<Vec<_>>();
        assert_eq!(
            found("COUNT = 26\nfor i in range(100): x[3] = n32 + 0.15 + 2.635 + 1e10, 110"),
            [26, 110]
        );
        assert_eq!(found("n=26. Then 007, 12_000, é14, 1234567890 and 32"), [26, 32]);
        assert_eq!(found(""), [] as [u64; 0]);
    }

    #[test]
    fn a_profile_is_what_nearly_all_have() {
        let mut sampled = Sampled::default();
        for n in 0..10 {
            let code = format!("def solve(points):\n    return step_{n}(points, 26, {})", 40 + n);
            let metrics = format!("{{\"score\": {n}, \"valid\": 1, \"name\": \"x\", \"nan\": \"nan\"}}");
            sampled.program(&code, Some(&metrics));
        }
        sampled.program("", Some("not json"));
        sampled.prompt("Pack 26 Circles.");
        let profile = sampled.profile("packing");
        assert_eq!(profile.sizes, [26].into());
        assert_eq!(profile.metrics, ["score".to_owned()].into());
        let word = |word: &str| words(word)[0];
        assert!(profile.interface.contains(&word("points")) && !profile.interface.contains(&word("step_3")));
        assert_eq!(profile.prompts, words("circles 26 pack."));
    }

    #[test]
    fn a_task_without_anything_has_an_empty_profile() {
        let empty = Sampled::default().profile("t");
        assert_eq!(empty, Profile { task: "t".to_owned(), ..Profile::default() });
    }
}
