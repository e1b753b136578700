//! Rules that tell failures of the evaluator and the machine from those of a program, by what was printed.
//!
//! `rules/failures.toml` is built in; a label stage may add a file of the same form. Patterns run in time linear in the
//! text, whatever a log holds.

use std::sync::LazyLock;

use regex::{RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};

use crate::ingest::assess::Failure;

static BUILT_IN: LazyLock<Rules> = LazyLock::new(|| {
    Rules::parse(include_str!("../rules/failures.toml"))
        .expect("the tests hold that the built-in rules are right")
});

/// Bytes of compiled patterns, at most.
const MOST_BYTES: usize = 16 << 20;

/// What a failure is called when a pattern is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, as tables have it.
    pub name: String,
    /// What it is: a time-out, or a failure of the machine.
    pub failure: Failure,
    /// Regular expressions, without regard to case.
    pub patterns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    rule: Vec<Rule>,
}

/// Rules in their order, compiled.
#[derive(Clone, Debug)]
pub struct Rules {
    rules: Vec<Rule>,
    patterns: RegexSet,
    /// For each pattern its rule.
    owners: Vec<usize>,
}

impl Rules {
    /// The rules that finch comes with.
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// The rules of a file, or what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        Self::new(file.rule)
    }

    /// Rules in this order, or what is wrong with them.
    pub fn new(rules: Vec<Rule>) -> Result<Self, String> {
        for rule in &rules {
            let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if rule.name.is_empty() || !rule.name.chars().all(is_word) {
                return Err(format!(
                    "rule name `{}` is not of lower-case letters, digits and `_`",
                    rule.name
                ));
            }
            if !matches!(rule.failure, Failure::Timeout | Failure::Infrastructure) {
                return Err(format!(
                    "`failure` of rule `{}` must be `timeout` or `infrastructure`",
                    rule.name
                ));
            }
            if rule.patterns.is_empty() {
                return Err(format!("rule `{}` has no pattern", rule.name));
            }
        }
        let patterns = rules.iter().flat_map(|rule| &rule.patterns);
        if let Some(blank) = rules.iter().find(|rule| rule.patterns.iter().any(|p| p.trim().is_empty())) {
            return Err(format!("a pattern of rule `{}` is blank", blank.name));
        }
        let built = RegexSetBuilder::new(patterns).case_insensitive(true).size_limit(MOST_BYTES).build();
        let patterns = built.map_err(|error| match error {
            regex::Error::Syntax(text) => format!("a pattern is no regular expression: {}", text.trim()),
            _ => "the patterns are too large together".to_owned(),
        })?;
        // Such a pattern is in every text.
        if let Some(pattern) = patterns.matches("").iter().next() {
            let pattern = &patterns.patterns()[pattern];
            return Err(format!("the pattern `{pattern}` matches everything"));
        }
        let owners = (0..).zip(&rules).flat_map(|(at, rule)| std::iter::repeat_n(at, rule.patterns.len()));
        Ok(Self { owners: owners.collect(), patterns, rules })
    }

    /// These rules before others.
    pub fn before(&self, others: &Self) -> Result<Self, String> {
        Self::new(self.rules.iter().chain(&others.rules).cloned().collect())
    }

    /// The rules, in their order.
    pub fn all(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule of which a pattern is in the text.
    pub fn find(&self, text: &str) -> Option<&Rule> {
        // Patterns stand in the order of their rules.
        self.patterns.matches(text).iter().next().map(|pattern| &self.rules[self.owners[pattern]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(Rules::built_in().find(text).map(|rule| rule.name.as_str()), expected, "{text}");
    }

    /// As evaluators, schedulers and services print them.
    #[test]
    fn messages_of_machines_are_recognised() {
        check("Evaluation timed out after 600s", Some("timeout"));
        check("asyncio.exceptions.TimeoutError", Some("timeout"));
        check("subprocess.TimeoutExpired: Command '['python']' timed out after 60 seconds", Some("timeout"));
        check("</command> timed out and has been killed.", Some("timeout"));
        check("context deadline exceeded", Some("timeout"));
        check("slurmstepd: error: *** JOB 7 CANCELLED DUE TO TIME LIMIT ***", Some("timeout"));
        check("Program execution failed: No module named 'scipy'", Some("missing_module"));
        check("ModuleNotFoundError: No module named 'jinja2'", Some("missing_module"));
        check("openai.RateLimitError: Error code: 429 - {'error': …}", Some("rate_limit"));
        check("HTTP/1.1 429 Too Many Requests", Some("rate_limit"));
        check("{\"type\": \"overloaded_error\"}", Some("rate_limit"));
        check("OSError: [Errno 28] No space left on device: '/tmp/x'", Some("no_space"));
        check("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", Some("no_memory"));
        check("terminate called after throwing an instance of 'std::bad_alloc'", Some("no_memory"));
        check("Process terminated by signal 9", Some("killed"));
        check("Command died with <Signals.SIGKILL: 9>.", Some("killed"));
        check("container exited with exit code 137", Some("killed"));
        check("concurrent.futures.process.BrokenProcessPool: A process in the pool", Some("killed"));
        check(
            "requests.exceptions.ConnectionError: HTTPConnectionPool(host='localhost')",
            Some("connection"),
        );
        check("[Errno 111] Connection refused", Some("connection"));
        check("worker exited with code 137", Some("killed"));
        check("subprocess returned non-zero, return code -9", Some("killed"));
        check("/bin/sh: line 1:  4242 Killed", Some("killed"));
        check("Last State: Terminated, Reason: OOMKilled", Some("killed"));
        check("slurmstepd: error: Detected 1 oom-kill event(s) in step", Some("killed"));
        check("selenium.TimeoutException: x", Some("timeout"));
        check("429 Client Error for url", Some("rate_limit"));
        check("grpc: RESOURCE_EXHAUSTED", Some("rate_limit"));
        check("The model is overloaded. Please try again later", Some("rate_limit"));
        check("ENOSPC: write", Some("no_space"));
    }

    #[test]
    fn the_built_in_rules_change_only_with_a_version() {
        let digest = blake3::hash(include_bytes!("../rules/failures.toml")).to_hex();
        let versions = (crate::stage::code_version("ingest"), crate::stage::code_version("label"));
        assert_eq!(
            (digest.as_str(), versions),
            ("a877bc628ba88df803fc0af81f5955e4a675888c37e6516779b21a2f450712b2", (4, 2)),
            "they decide rows of `ingest` and `label`: raise both versions with them"
        );
    }

    #[test]
    fn mistakes_of_programs_are_not() {
        check("ValueError: operands could not be broadcast together", None);
        check("ImportError: cannot import name 'Extension' from 'jinja2'", None);
        check("usage: run.py [--timeout SECONDS]", None);
        check("MemoryError", None);
        check("InvalidAnswer: a van is overloaded", None);
        check("circles 4 and 29 overlap; id 429eb670", None);
        check("", None);
    }

    #[test]
    fn the_first_rule_wins_and_a_users_comes_before() {
        let own = Rules::parse(
            "[[rule]]\nname = \"licence\"\nfailure = \"infrastructure\"\npatterns = ['license server', 'timed out']\n",
        )
        .expect("rules");
        let all = own.before(Rules::built_in()).expect("rules");
        assert_eq!(all.find("the license server TIMED OUT").map(|rule| rule.name.as_str()), Some("licence"));
        assert_eq!(all.find("no space left").map(|rule| rule.name.as_str()), Some("no_space"));
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let check = |text: &str, expected: &str| {
            let problem = Rules::parse(text).expect_err("it is wrong");
            assert!(problem.contains(expected), "{problem}");
        };
        let rule = |name: &str, failure: &str, patterns: &str| {
            format!("[[rule]]\nname = \"{name}\"\nfailure = \"{failure}\"\npatterns = {patterns}\n")
        };
        check("rule = 1", "invalid type");
        check(&rule("a", "timeout", "['(']"), "regular expression");
        check(&rule("a", "rejected", "['x']"), "must be `timeout` or `infrastructure`");
        check(&rule("a", "nothing", "['x']"), "unknown variant");
        check(&rule("A b", "timeout", "['x']"), "lower-case");
        check(&rule("a", "timeout", "[]"), "no pattern");
        check(&rule("a", "timeout", "[' ']"), "blank");
        for everything in ["x*", "()", "a|", "^", "(?:)", "$"] {
            check(&rule("a", "timeout", &format!("['{everything}']")), "matches everything");
        }
        check(&rule("a", "timeout", "['(a{1000}){1000}']"), "too large");
        check("[[rule]]\nnames = 1", "unknown field");
    }
}
