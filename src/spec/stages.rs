//! The parameters of every stage kind, as a spec writes them.
//!
//! Adding a parameter: a field here, read in `kinds` with its default. What serialises is what enters the
//! fingerprint; names of other stages and paths are skipped, because inputs count by their digests.

use std::collections::BTreeMap;
use std::path::PathBuf;

use finch_core::training;
use serde::Serialize;

use super::balance::Balance;
use super::{Input, Span};
use crate::remote::Place;
use crate::rules::Rule;

/// A stage's parameters, by kind.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Config {
    /// Reads logs.
    Ingest(Ingest),
    /// Removes equal transitions.
    Dedup(Dedup),
    /// Compares child with parent.
    Label(Label),
    /// Keeps transitions that satisfy a condition.
    Filter(Filter),
    /// Caps and weighs what is trained on.
    Balance(Balance),
    /// Assigns train, validation and test.
    Split(Split),
    /// Loads or trains a tokenizer.
    Tokenizer(Tokenizer),
    /// Turns transitions into examples.
    Render(Render),
    /// Puts examples into sequences.
    Pack(Pack),
    /// Trains a model.
    Train(Box<Train>),
    /// Runs a query.
    Sql(Sql),
}

/// `kind = "ingest"`.
#[derive(Clone, Debug, Serialize)]
pub struct Ingest {
    /// Folders or files with logs.
    #[serde(skip)]
    pub sources: Vec<SourceEntry>,
    /// Whether candidates of scaffolds that name no parents get the most similar of those that they may come from.
    pub infer_parents: bool,
    /// The fraction of records that may be unreadable.
    #[serde(skip)]
    pub max_quarantined: f64,
}

/// One entry of `sources`.
#[derive(Clone, Debug)]
pub struct SourceEntry {
    /// As the spec writes it.
    pub given: String,
    /// Resolved.
    pub place: Place,
    /// The scaffold, when the user knows better than detection.
    pub scaffold: Option<String>,
    /// The task of every run below.
    pub task: Option<String>,
    /// The logs' licence.
    pub license: Option<String>,
    /// Where the logs come from.
    pub origin: Option<String>,
    /// A mapping that says where the parts of the records stand.
    pub mapping: Option<PathBuf>,
    /// Where the spec says so.
    pub span: Span,
}

/// Which texts count as equal in `dedup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Exact {
    /// Byte for byte as logged.
    Raw,
    /// In canonical form.
    Canonical,
    /// In canonical form, without comments and blank lines.
    Code,
}

/// What transitions are compared by in the near form of `dedup`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NearOf {
    /// The lines that the step changed.
    Change,
    /// The model's answer.
    Response,
}

/// When transitions of a task are almost the same, and when programs are.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Near {
    /// Code tokens in a row that are compared as one.
    pub ngram: i64,
    /// Hashes of a sketch; more find what is just above the threshold with more certainty.
    pub permutations: i64,
    /// The least Jaccard similarity, in (0, 1].
    pub threshold: f64,
    /// What is compared.
    pub of: NearOf,
}

/// `kind = "dedup"`.
#[derive(Clone, Debug, Serialize)]
pub struct Dedup {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// The key of equality.
    pub exact: Exact,
    /// Whether transitions that are almost the same go too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub near: Option<Near>,
    /// Which of equal transitions stays. There is one rule so far: `best`.
    pub keep: &'static str,
}

/// `kind = "label"`.
#[derive(Clone, Debug, Serialize)]
pub struct Label {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// Scores nearer than this are equal.
    pub absolute: f64,
    /// Scores nearer than this share of the larger one are equal.
    pub relative: f64,
    /// Tasks that are judged otherwise.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tasks: BTreeMap<String, TaskLabel>,
    /// The places of these tasks in the spec.
    #[serde(skip)]
    pub task_spans: BTreeMap<String, Span>,
    /// Rules for failures of the evaluator and the machine, besides those that are built in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

/// How the steps of one task are judged.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TaskLabel {
    /// Scores nearer than this are equal.
    pub absolute: f64,
    /// Scores nearer than this share of the larger one are equal.
    pub relative: f64,
    /// No valid score is better; it stands in for the catalogue's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
}

impl Label {
    /// Scores nearer than this are equal, where nobody says otherwise.
    pub const ABSOLUTE: f64 = 0.0;
    /// Scores nearer than this share of the larger one are equal, where nobody says otherwise.
    pub const RELATIVE: f64 = 1e-9;
}

/// `kind = "filter"`.
#[derive(Clone, Debug, Serialize)]
pub struct Filter {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// A SQL condition over the transitions view; without it, the outcomes that the design keeps.
    #[serde(rename = "where")]
    pub condition: Option<String>,
    /// The place of the condition, or of the stage when there is none.
    #[serde(skip)]
    pub condition_span: Span,
    /// Which programs of a transition must be valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid: Option<Valid>,
    /// How many tokens the texts of a transition may have together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenBudget>,
    /// A cap for each task.
    pub per_task: Option<PerTask>,
    /// Whether an empty result is fine.
    #[serde(skip)]
    pub allow_empty: bool,
}

/// Which programs of a transition must be valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Valid {
    /// The child.
    Child,
    /// The child and its parent.
    Both,
}

/// A range for the tokens of a transition's prompts, reasoning and response together.
#[derive(Clone, Debug, Serialize)]
pub struct TokenBudget {
    /// The fewest.
    pub min: i64,
    /// The most.
    pub max: i64,
    /// The tokenizer stage that counts.
    #[serde(skip)]
    pub tokenizer: Input,
}

/// At most so many transitions a task.
#[derive(Clone, Debug, Serialize)]
pub struct PerTask {
    /// The cap.
    pub max: i64,
    /// Which come first; ties are broken by transition id.
    pub order_by: Option<String>,
    /// The place of `order_by`.
    #[serde(skip)]
    pub order_span: Span,
}

/// What to do with content on both sides of the split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnLeak {
    /// Remove the training side.
    Drop,
    /// Fail.
    Error,
    /// Only say so.
    Report,
}

/// `kind = "split"`.
#[derive(Clone, Debug, Serialize)]
pub struct Split {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// Tasks of the test split, with their whole alias groups.
    pub hold_out_tasks: Vec<String>,
    /// The places of these names in the spec.
    #[serde(skip)]
    pub hold_out_spans: Vec<Span>,
    /// Domains whose tasks are all held out, with their alias groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hold_out_domains: Vec<String>,
    /// The places of these domains in the spec.
    #[serde(skip)]
    pub hold_out_domain_spans: Vec<Span>,
    /// The fraction of alias groups held out besides, by hash.
    pub hold_out_fraction: f64,
    /// Runs kept for validation.
    pub validation: Option<ValidationRuns>,
    /// The similarity at which programs of both sides are a leak; `None` looks for equal ones alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_near: Option<f64>,
    /// How texts are searched for what is the held-out side's own; `None` does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leak_ngram: Option<LeakNgram>,
    /// What to do with leaks.
    pub on_leak: OnLeak,
    /// Whether tasks are compared, to propose alias groups.
    pub propose_aliases: bool,
}

/// When a text holds what is the held-out side's own.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LeakNgram {
    /// Code tokens in a row that are compared as one.
    pub ngram: i64,
    /// The least share of the held-out text's own n-grams, in (0, 1].
    pub containment: f64,
}

/// Whole runs are kept for validation, chosen by hash.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ValidationRuns {
    /// The fraction of runs.
    pub runs: f64,
}

/// `kind = "tokenizer"`.
#[derive(Clone, Debug, Serialize)]
pub struct Tokenizer {
    /// Where it comes from.
    #[serde(flatten)]
    pub from: TokenizerFrom,
}

/// Where a tokenizer comes from.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum TokenizerFrom {
    /// A `tokenizer.json`.
    Path {
        /// The file; it counts by its content.
        #[serde(skip)]
        path: PathBuf,
        /// Where the spec says so.
        #[serde(skip)]
        span: Span,
    },
    /// A byte-level BPE trained on the train rows of a dataset.
    Trained {
        /// The dataset.
        #[serde(skip)]
        input: Input,
        /// Entries, special tokens included.
        vocabulary: i64,
        /// Whether user names, mail addresses and keys are taken out before training.
        scrub: bool,
    },
}

/// What to do with an example that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OverLength {
    /// Keep it out, with the reason.
    Drop,
    /// Fail.
    Error,
}

/// `kind = "render"`.
#[derive(Clone, Debug, Serialize)]
pub struct Render {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// The chat template's name.
    pub template: String,
    /// The tokenizer stage.
    #[serde(skip)]
    pub tokenizer: Input,
    /// The longest example, in tokens of the rendered chat.
    pub max_tokens: i64,
    /// What happens to longer ones.
    pub over_length: OverLength,
    /// Whether user names, mail addresses and keys are taken out.
    pub scrub: bool,
    /// Whether an empty result is fine.
    #[serde(skip)]
    pub allow_empty: bool,
}

/// `kind = "pack"`.
#[derive(Clone, Debug, Serialize)]
pub struct Pack {
    /// The dataset it reads.
    #[serde(skip)]
    pub input: Input,
    /// The longest sequence, in tokens.
    pub sequence_tokens: i64,
    /// Where files are cut, in bytes of the canonical encoding.
    pub shard_bytes: u64,
    /// Whether an empty result is fine.
    #[serde(skip)]
    pub allow_empty: bool,
}

/// `kind = "train"`.
#[derive(Clone, Debug)]
pub struct Train {
    /// The dataset it reads.
    pub input: Input,
    /// Where the spec names the base.
    pub base_span: Span,
    /// What the trainer is told. Paths are resolved; the seed is the pipeline's and still missing.
    pub config: training::Config,
    /// How the trainer is started.
    pub launcher: Launcher,
}

/// How the trainer is started; it changes no weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// As a child of finch.
    Local,
    /// By the words of a command, of which one or more hold `{command}`.
    Template(Vec<String>),
}

/// The parameters that decide the weights. Paths do not, the base counts by its content; nor do the launcher, and what is
/// kept on disk and in memory. The seed is a part of the fingerprint for itself.
impl Serialize for Train {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut config = serde_json::to_value(&self.config).map_err(serde::ser::Error::custom)?;
        if let Some(fields) = config.as_object_mut() {
            for key in training::Config::WEIGHTLESS.into_iter().chain(["seed"]) {
                fields.remove(key);
            }
            let init = match &self.config.base {
                training::Base::Checkpoint(_) => "checkpoint",
                training::Base::Config { init: training::Init::Random, .. } => "random",
            };
            fields.insert("init".to_owned(), init.into());
        }
        config.serialize(serializer)
    }
}

/// `kind = "sql"`.
#[derive(Clone, Debug, Serialize)]
pub struct Sql {
    /// The datasets it reads, each a schema of its name.
    #[serde(skip)]
    pub inputs: Vec<Input>,
    /// The query's text.
    pub query: String,
    /// The place of the query in the spec.
    #[serde(skip)]
    pub query_span: Span,
    /// The table it makes.
    pub table: String,
    /// The columns of its unique key; empty means all columns.
    pub key: Vec<String>,
    /// The place of the key.
    #[serde(skip)]
    pub key_span: Span,
}

impl Config {
    /// The word that a spec uses.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Ingest(_) => "ingest",
            Self::Dedup(_) => "dedup",
            Self::Label(_) => "label",
            Self::Filter(_) => "filter",
            Self::Balance(_) => "balance",
            Self::Split(_) => "split",
            Self::Tokenizer(_) => "tokenizer",
            Self::Render(_) => "render",
            Self::Pack(_) => "pack",
            Self::Train(_) => "train",
            Self::Sql(_) => "sql",
        }
    }

    /// The table that it is there to make; empty for a tokenizer, which makes none.
    pub fn own_table(&self) -> &str {
        match self {
            Self::Ingest(_)
            | Self::Dedup(_)
            | Self::Label(_)
            | Self::Filter(_)
            | Self::Balance(_)
            | Self::Split(_) => "transitions",
            Self::Tokenizer(_) => "",
            Self::Render(_) => "examples",
            Self::Pack(_) => "packs",
            Self::Train(_) => "losses",
            Self::Sql(stage) => &stage.table,
        }
    }

    /// The stages that it reads, the main one first.
    pub fn inputs(&self) -> Vec<&Input> {
        match self {
            Self::Ingest(_) | Self::Tokenizer(Tokenizer { from: TokenizerFrom::Path { .. } }) => vec![],
            Self::Dedup(stage) => vec![&stage.input],
            Self::Label(stage) => vec![&stage.input],
            Self::Filter(stage) => {
                let tokenizer = stage.tokens.as_ref().map(|budget| &budget.tokenizer);
                std::iter::once(&stage.input).chain(tokenizer).collect()
            }
            Self::Balance(stage) => vec![&stage.input],
            Self::Split(stage) => vec![&stage.input],
            Self::Tokenizer(Tokenizer { from: TokenizerFrom::Trained { input, .. } }) => vec![input],
            Self::Render(stage) => vec![&stage.input, &stage.tokenizer],
            Self::Pack(stage) => vec![&stage.input],
            Self::Train(stage) => vec![&stage.input],
            Self::Sql(stage) => stage.inputs.iter().collect(),
        }
    }
}
