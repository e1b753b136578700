//! What crosses the process boundary between finch and its trainer.
//!
//! finch writes a [`Config`] as JSON and starts `finch-train run CONFIG --data DATASET --out FOLDER --json`; the
//! trainer answers with one [`Event`] a line on standard output. Both programs use these types, so neither can
//! say what the other does not understand. A config that a person writes is the same table in TOML.

mod base;
mod config;
mod event;

pub use base::digest_of_base;
pub use config::{Base, Batch, Config, DType, Device, Init, Length, Method, Schedule, ScheduleKind};
pub use event::{Environment, Eval, Event, Failure, Finish, Start, Step, TaskLoss, Totals};

/// The environment variable with which finch tells the trainer who started it: its process id. A trainer whose
/// parent that is ends with it.
pub const STARTER: &str = "FINCH_PID";

/// The files of a finished model, in the folder `model` of the trainer's output.
pub mod files {
    /// The folder.
    pub const MODEL: &str = "model";
    /// The architecture, in the Hugging Face form.
    pub const CONFIG: &str = "config.json";
    /// The weights.
    pub const WEIGHTS: &str = "model.safetensors";
    /// The tokenizer.
    pub const TOKENIZER: &str = "tokenizer.json";
    /// Special tokens and the chat template, for `transformers`.
    pub const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
    /// What else a checkpoint directory says of its tokenizer and of generating, beside [`TOKENIZER`] and
    /// [`TOKENIZER_CONFIG`].
    pub const COMPANIONS: [&str; 6] = [
        "generation_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "vocab.json",
        "merges.txt",
    ];
    /// Every event of the training, one JSON object a line.
    pub const LOG: &str = "log.jsonl";
    /// The loss of every held-out example at every evaluation.
    pub const LOSSES: &str = "losses.parquet";
}
