//! The spec that is mutated, what each of its parameters can be changed to, and how its text is changed.
//!
//! Every key stands on a line of its own, so that lines can be moved; keys that are at their defaults are in
//! [`DEFAULTS`] too.

/// A spec with every stage kind; `model` is planned and never built.
pub(super) const SPEC: &str = r#"[pipeline]
name = "mutations"
store = "store"
seed = 1
sample = 1.0
tasks = "tasks.toml"

[stages.logs]
kind = "ingest"
sources = ["logs/a", "logs/b", "logs/c"]
infer_parents = false
max_quarantined = 0.5

[stages.unique]
kind = "dedup"
input = "logs"
exact = "canonical"
near = { ngram = 5, permutations = 128, threshold = 0.99, of = "change" }
keep = "best"

[stages.labelled]
kind = "label"
input = "unique"
tolerance = { absolute = 0.0, relative = 1e-9 }
tasks.held = { tolerance = { absolute = 0.5, relative = 0.125 }, bound = 99.0 }

[stages.kept]
kind = "filter"
input = "labelled"
where = "child_score > 0"
per_task = { max = 100, order_by = "child_score DESC" }
allow_empty = false

[stages.split]
kind = "split"
input = "kept"
hold_out = { tasks = ["held"], domains = ["words"], fraction = 0.0 }
validation = { runs = 0.0 }
leak = { near = 0.875, ngram = 13, containment = 0.75, propose_aliases = true, on_leak = "report" }

[stages.fits]
kind = "filter"
input = "split"
where = "TRUE"
valid = "child"
tokens = { min = 0, max = 9000, tokenizer = "tokens" }
per_task = { max = 50, order_by = "child_score" }
allow_empty = false

[stages.balanced]
kind = "balance"
input = "fits"
caps = { run = 40, task = 30, outcome = { improvement = 20 } }
weights = { task = 0.5, outcome = { self_repair = 0.25 } }
choose = "spread"

[stages.tokens]
kind = "tokenizer"
input = "split"
vocabulary = 320
scrub = true

[stages.loaded]
kind = "tokenizer"
path = "tokenizer.json"

[stages.sft]
kind = "render"
input = "balanced"
template = "chatml"
tokenizer = "tokens"
max_tokens = 10000
over_length = "drop"
scrub = true
allow_empty = false

[stages.other]
kind = "render"
input = "split"
tokenizer = "loaded"
max_tokens = 10000
over_length = "drop"

[stages.packed]
kind = "pack"
input = "sft"
sequence_tokens = 1000
shard_bytes = "256MiB"
allow_empty = false

[stages.counted]
kind = "sql"
inputs = ["sft"]
query = "sql/counted.sql"
table = "counted"
key = ["task"]
"#;

/// The train stage, which this test never builds.
pub(super) const MODEL: &str = r#"
[stages.model]
kind = "train"
input = "packed"
base = { config = "base.json", init = "random" }
epochs = 1
batch_packs = 1
lr = 1e-3
eval_tokens = 1000
checkpoint_every = 2
launcher = "local"
"#;

/// What `sql/counted.sql` holds.
pub(super) const QUERY: &str = "SELECT task, count(*) AS examples FROM sft.examples GROUP BY task";

/// Lines that say what holds without them. Not `MODEL`'s: its defaults are in the schema.
pub(super) const DEFAULTS: [(&str, &str); 20] = [
    ("pipeline", "name = \"mutations\"\n"),
    ("pipeline", "sample = 1.0\n"),
    ("logs", "max_quarantined = 0.5\n"),
    ("logs", "infer_parents = false\n"),
    ("unique", "exact = \"canonical\"\n"),
    ("unique", "keep = \"best\"\n"),
    ("labelled", "tolerance = { absolute = 0.0, relative = 1e-9 }\n"),
    ("kept", "allow_empty = false\n"),
    ("split", ", fraction = 0.0"),
    ("split", ", propose_aliases = true"),
    ("fits", "allow_empty = false\n"),
    ("balanced", "choose = \"spread\"\n"),
    ("tokens", "scrub = true\n"),
    ("sft", "template = \"chatml\"\n"),
    ("sft", "scrub = true\n"),
    ("sft", "allow_empty = false\n"),
    ("packed", "shard_bytes = \"256MiB\"\n"),
    ("packed", "allow_empty = false\n"),
    ("model", "checkpoint_every = 2\n"),
    ("model", "launcher = \"local\"\n"),
];

/// How a parameter becomes another valid one.
pub(super) enum Change {
    /// This text in the stage's table becomes that one.
    To(&'static str, &'static str),
    /// The key has one valid value so far; this other one is refused.
    Refused(&'static str, &'static str),
}
use Change::{Refused, To};

/// A change of each parameter, by stage and by name in the manifest.
pub(super) const CHANGES: &[(&str, &str, Change)] = &[
    ("logs", "infer_parents", To("infer_parents = false", "infer_parents = true")),
    ("unique", "exact", To("\"canonical\"", "\"raw\"")),
    ("unique", "near.ngram", To("ngram = 5", "ngram = 6")),
    ("unique", "near.permutations", To("128", "64")),
    ("unique", "near.threshold", To("0.99", "0.9")),
    ("unique", "near.of", To("\"change\"", "\"response\"")),
    ("unique", "keep", Refused("\"best\"", "\"first\"")),
    ("labelled", "absolute", To("absolute = 0.0", "absolute = 0.25")),
    ("labelled", "relative", To("1e-9", "1e-6")),
    ("labelled", "tasks.held.absolute", To("absolute = 0.5", "absolute = 0.25")),
    ("labelled", "tasks.held.relative", To("relative = 0.125", "relative = 0.5")),
    ("labelled", "tasks.held.bound", To("99.0", "98.0")),
    ("kept", "where", To("> 0", "> 1")),
    ("kept", "per_task.max", To("100", "5")),
    ("kept", "per_task.order_by", To("DESC", "ASC")),
    ("split", "hold_out_tasks", To("\"held\"", "\"first\"")),
    ("split", "hold_out_domains", To("\"words\"", "\"numbers\"")),
    ("split", "leak_near", To("0.875", "0.5")),
    ("split", "leak_ngram.ngram", To("ngram = 13", "ngram = 8")),
    ("split", "leak_ngram.containment", To("0.75", "0.5")),
    ("split", "propose_aliases", To("true", "false")),
    ("fits", "where", To("\"TRUE\"", "\"delta > 0\"")),
    ("fits", "valid", To("\"child\"", "\"both\"")),
    ("fits", "tokens.min", To("min = 0", "min = 3")),
    ("fits", "tokens.max", To("9000", "200")),
    ("fits", "per_task.max", To("50", "5")),
    ("fits", "per_task.order_by", To("\"child_score\"", "\"iteration\"")),
    ("balanced", "caps.run", To("run = 40", "run = 4")),
    ("balanced", "caps.task", To("task = 30", "task = 3")),
    ("balanced", "caps.outcome.improvement", To("20", "2")),
    ("balanced", "weights.task", To("task = 0.5", "task = 1.0")),
    ("balanced", "weights.outcome.self_repair", To("0.25", "0.5")),
    ("balanced", "choose", To("\"spread\"", "\"hash\"")),
    ("split", "hold_out_fraction", To("fraction = 0.0", "fraction = 0.5")),
    ("split", "validation.runs", To("runs = 0.0", "runs = 0.5")),
    ("split", "on_leak", To("\"report\"", "\"drop\"")),
    ("tokens", "vocabulary", To("320", "300")),
    ("tokens", "scrub", To("true", "false")),
    ("sft", "template", Refused("\"chatml\"", "\"llama\"")),
    ("sft", "max_tokens", To("10000", "900")),
    ("sft", "over_length", To("\"drop\"", "\"error\"")),
    ("sft", "scrub", To("scrub = true", "scrub = false")),
    ("other", "template", Refused("max_tokens", "template = \"llama\"\nmax_tokens")),
    ("other", "max_tokens", To("10000", "900")),
    ("other", "over_length", To("\"drop\"", "\"error\"")),
    ("other", "scrub", To("max_tokens", "scrub = false\nmax_tokens")),
    ("packed", "sequence_tokens", To("1000", "2000")),
    ("packed", "shard_bytes", To("256MiB", "1MiB")),
    ("counted", "query", To("\"sql/counted.sql\"", "\"SELECT DISTINCT task FROM sft.examples\"")),
    ("counted", "table", To("\"counted\"", "\"tally\"")),
    ("counted", "key", To("[\"task\"]", "[]")),
    ("model", "method", Refused("lr = 1e-3", "lr = 1e-3\nmethod = \"kto\"")),
    ("model", "method", To("lr", "method = \"lora\"\nlr")),
    ("model", "lora", To("lr", "method = \"lora\"\nlora = { rank = 4 }\nlr")),
    ("model", "epochs", To("epochs = 1", "epochs = 2")),
    ("model", "steps", To("epochs = 1", "steps = 2")),
    ("model", "batch_examples", To("batch_packs = 1", "batch_examples = 1")),
    ("model", "batch_packs", To("batch_packs = 1", "batch_packs = 2")),
    ("model", "micro_packs", To("lr", "micro_packs = 2\nlr")),
    ("model", "lr", To("1e-3", "2e-3")),
    ("model", "schedule", To("lr", "schedule = { kind = \"linear\" }\nlr")),
    ("model", "schedule", To("lr", "schedule = { warmup = 0.1 }\nlr")),
    ("model", "beta1", To("lr", "beta1 = 0.8\nlr")),
    ("model", "beta2", To("lr", "beta2 = 0.8\nlr")),
    ("model", "epsilon", To("lr", "epsilon = 1e-7\nlr")),
    ("model", "weight_decay", To("lr", "weight_decay = 0.1\nlr")),
    ("model", "clip", To("lr", "clip = 2.0\nlr")),
    ("model", "schedule", To("lr", "schedule = { kind = \"wsd\", decay = 0.1 }\nlr")),
    ("model", "dtype", To("lr", "dtype = \"bf16\"\nlr")),
    ("model", "state_bytes", To("lr", "dtype = \"bf16\"\nstate_bytes = 12\nlr")),
    ("model", "deterministic", To("lr", "deterministic = true\nlr")),
    ("model", "not_finite", To("lr", "not_finite = \"skip\"\nlr")),
    ("model", "device", To("lr", "device = \"cpu\"\nlr")),
    ("model", "threads", To("lr", "threads = 3\nlr")),
    ("model", "eval_every", To("lr", "eval_every = 1\nlr")),
    ("model", "eval_tokens", To("1000", "2000")),
    ("model", "base", To("{ config = \"base.json\", init = \"random\" }", "\"checkpoint\"")),
];

/// Keys of a training's config that are no parameters of its weights: where finch writes what it knows itself, and
/// what only says how careful to be and what memory there is. The seed is the pipeline's.
pub(super) const NO_PARAMETERS_OF_MODEL: [&str; 7] =
    ["base_digest", "checkpoint_every", "keep_checkpoints", "keep_best", "activations", "memory", "seed"];

/// The tables of a spec: `pipeline`, then each stage by name, with their text.
pub(super) fn sections(spec: &str) -> Vec<(String, String)> {
    let starts: Vec<usize> = spec
        .match_indices('[')
        .map(|(at, _)| at)
        .filter(|&at| at == 0 || spec[..at].ends_with('\n'))
        .collect();
    let ends = starts.iter().skip(1).copied().chain([spec.len()]);
    let section = |(start, end): (&usize, usize)| {
        let text = spec[*start..end].to_owned();
        let name = text[1..text.find(']').expect("a header")].trim_start_matches("stages.").to_owned();
        (name, text)
    };
    starts.iter().zip(ends).map(section).collect()
}

/// The spec with a text of one stage's table replaced.
#[track_caller]
pub(super) fn changed(spec: &str, stage: &str, from: &str, to: &str) -> String {
    let mut found = false;
    let replaced = sections(spec).into_iter().map(|(name, text)| {
        if name != stage {
            return text;
        }
        assert!(text.contains(from), "`{from}` is not in\n{text}");
        found = true;
        // Behind the header, which may hold the same word.
        let (header, rest) = text.split_once('\n').expect("a header");
        format!("{header}\n{}", rest.replacen(from, to, 1))
    });
    let spec = replaced.collect();
    assert!(found, "no stage `{stage}`");
    spec
}
