//! How the tables of the stages that choose and judge transitions are read.

use std::collections::BTreeMap;
use std::path::Path;

use super::kinds::input;
use super::stages::{
    Config, Dedup, Exact, Filter, Label, LeakNgram, Near, NearOf, OnLeak, PerTask, Split, TaskLabel,
    TokenBudget, Valid, ValidationRuns,
};
use super::{Reader, Span};
use crate::code::Code;
use crate::rules::{Rule, Rules};

pub(super) fn dedup(reader: &mut Reader<'_>, _base: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let exact = match reader.has("exact") {
        true => {
            let words = [("raw", Exact::Raw), ("canonical", Exact::Canonical), ("code", Exact::Code)];
            reader.choice("exact", &words)
        }
        false => Some(Exact::Canonical),
    };
    let near = reader.table("near").map(|mut table| {
        let ngram = table.integer("ngram", 1..=64).unwrap_or(5);
        let permutations = table.integer("permutations", 16..=1024).unwrap_or(128);
        let threshold = threshold(&mut table, "threshold").unwrap_or(0.85);
        let words = [("change", NearOf::Change), ("response", NearOf::Response)];
        let of = if table.has("of") { table.choice("of", &words) } else { None };
        table.finish();
        Near { ngram, permutations, threshold, of: of.unwrap_or(NearOf::Change) }
    });
    let keep = match reader.has("keep") {
        true => reader.choice("keep", &[("best", "best")]),
        false => Some("best"),
    };
    Some(Config::Dedup(Dedup { input: input?, exact: exact?, near, keep: keep? }))
}

/// A similarity that counts as alike.
fn threshold(reader: &mut Reader<'_>, key: &str) -> Option<f64> {
    let number = reader.fraction(key)?;
    if number == 0.0 {
        let message = format!("`{key}` in {} must be above 0: everything is that alike", reader.what());
        reader.reject(key, Code::BadValue, message, None);
        return None;
    }
    Some(number)
}

pub(super) fn label(reader: &mut Reader<'_>, base: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let (absolute, relative) = tolerance(reader);
    let (absolute, relative) = (absolute.unwrap_or(Label::ABSOLUTE), relative.unwrap_or(Label::RELATIVE));
    let (mut tasks, mut task_spans) = (BTreeMap::new(), BTreeMap::new());
    if let Some(mut table) = reader.table("tasks") {
        for (task, mut one) in table.tables(|task| format!("task `{task}`")) {
            task_spans.insert(task.clone(), one.span());
            let (own_absolute, own_relative) = tolerance(&mut one);
            let bound = one.number("bound");
            one.finish();
            let judged = TaskLabel {
                absolute: own_absolute.unwrap_or(absolute),
                relative: own_relative.unwrap_or(relative),
                bound,
            };
            tasks.insert(task, judged);
        }
        table.finish();
    }
    let rules = match reader.file("rules", base) {
        None => vec![],
        Some(text) => match rules(&text) {
            Ok(rules) => rules,
            Err(problem) => {
                reader.reject("rules", Code::BadValue, format!("the rules are wrong: {problem}"), None);
                return None;
            }
        },
    };
    Some(Config::Label(Label { input: input?, absolute, relative, tasks, task_spans, rules }))
}

fn tolerance(reader: &mut Reader<'_>) -> (Option<f64>, Option<f64>) {
    let Some(mut tolerance) = reader.table("tolerance") else { return (None, None) };
    let found = (tolerance.amount("absolute"), tolerance.amount("relative"));
    tolerance.finish();
    found
}

/// The rules of a file, which must also fit before those that are built in.
fn rules(text: &str) -> Result<Vec<Rule>, String> {
    let rules = Rules::parse(text)?;
    rules.before(Rules::built_in())?;
    Ok(rules.all().to_vec())
}

pub(super) fn filter(reader: &mut Reader<'_>, _base: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let condition = reader.text("where");
    let condition_span = reader.span_of("where");
    if condition.as_deref().is_some_and(|condition| condition.trim().is_empty()) {
        reader.reject("where", Code::BadValue, "`where` is empty", "write a condition, or remove the key");
    }
    let valid = match reader.has("valid") {
        true => reader.choice("valid", &[("child", Valid::Child), ("both", Valid::Both)]),
        false => None,
    };
    let tokens = reader.table("tokens").and_then(|mut table| {
        let min = table.integer("min", 0..=i64::MAX).unwrap_or(0);
        let max = table.required("max", |table, key| table.integer(key, 1..=i64::MAX));
        if max.is_some_and(|max| max < min) {
            let message = format!("`min` in {} is more than `max`: nothing fits", table.what());
            table.reject("min", Code::BadValue, message, None);
        }
        let tokenizer = self::input(&mut table, "tokenizer");
        table.finish();
        Some(TokenBudget { min, max: max?, tokenizer: tokenizer? })
    });
    let mut per_task = None;
    if let Some(mut cap) = reader.table("per_task") {
        let max = cap.required("max", |cap, key| cap.integer(key, 1..=i64::MAX));
        let order_by = cap.text("order_by");
        let order_span = cap.span_of("order_by");
        cap.finish();
        per_task = max.map(|max| PerTask { max, order_by, order_span });
    }
    let allow_empty = reader.boolean("allow_empty").unwrap_or(false);
    Some(Config::Filter(Filter {
        input: input?,
        condition,
        condition_span,
        valid,
        tokens,
        per_task,
        allow_empty,
    }))
}

pub(super) fn split(reader: &mut Reader<'_>, _base: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let (mut tasks, mut domains, mut fraction) = (Vec::new(), Vec::new(), None);
    if let Some(mut hold_out) = reader.table("hold_out") {
        tasks = hold_out.texts("tasks").unwrap_or_default();
        domains = hold_out.texts("domains").unwrap_or_default();
        fraction = hold_out.fraction("fraction");
        hold_out.finish();
    }
    let mut validation = None;
    if let Some(mut table) = reader.table("validation") {
        validation = table.required("runs", Reader::fraction).map(|runs| ValidationRuns { runs });
        table.finish();
    }
    let (mut on_leak, mut near, mut ngram, mut aliases) = (None, None, None, None);
    if let Some(mut leak) = reader.table("leak") {
        near = threshold(&mut leak, "near");
        // Fewer tokens are in every program, and more are seldom copied whole.
        let tokens = leak.integer("ngram", 4..=64);
        let containment = threshold(&mut leak, "containment");
        if tokens.is_none() && leak.has("containment") && !leak.has("ngram") {
            let message = "`containment` is of `ngram`, which is not there";
            leak.reject("containment", Code::BadValue, message, "add `ngram = 13`");
        }
        ngram = tokens.map(|ngram| LeakNgram { ngram, containment: containment.unwrap_or(0.8) });
        aliases = leak.boolean("propose_aliases");
        if leak.has("on_leak") {
            let words = [("drop", OnLeak::Drop), ("error", OnLeak::Error), ("report", OnLeak::Report)];
            on_leak = leak.choice("on_leak", &words);
        }
        leak.finish();
    }
    // Sorted, because the order of a list of names is not a parameter.
    let sorted = |mut names: Vec<(String, Span)>| -> (Vec<String>, Vec<Span>) {
        names.sort_by(|a, b| a.0.cmp(&b.0));
        names.dedup_by(|a, b| a.0 == b.0);
        names.into_iter().unzip()
    };
    let (hold_out_tasks, hold_out_spans) = sorted(tasks);
    let (hold_out_domains, hold_out_domain_spans) = sorted(domains);
    Some(Config::Split(Split {
        input: input?,
        hold_out_tasks,
        hold_out_spans,
        hold_out_domains,
        hold_out_domain_spans,
        hold_out_fraction: fraction.unwrap_or(0.0),
        validation,
        leak_near: near,
        leak_ngram: ngram,
        on_leak: on_leak.unwrap_or(OnLeak::Drop),
        propose_aliases: aliases.unwrap_or(true),
    }))
}
