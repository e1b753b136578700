//! What crosses the process boundary between finch and its trainer.
//!
//! finch writes a [`Config`] as JSON and starts `finch-train run CONFIG --data DATASET --out FOLDER --json`; the
//! trainer answers with one [`Event`] a line on standard output. Both programs use these types, so neither can
//! say what the other does not understand. A config that a person writes is the same table in TOML.

mod base;
mod choices;
mod config;
mod event;
mod weights;

pub use base::digest_of_base;
pub use choices::{
    Activations, Base, Batch, DType, Device, Init, Length, Lora, Method, NotFinite, Projection, Schedule,
    ScheduleKind, StateBytes,
};
pub use config::Config;
pub use event::{
    Best, Environment, Eval, Event, Failure, Finish, Flops, Kept, OutcomeLoss, Skipped, Start, Step,
    TaskLoss, Totals,
};
pub use weights::{digest_of_weights, is_weights};

/// The environment variable with which finch tells the trainer who started it: its process id. A trainer whose
/// parent that is ends with it.
pub const STARTER: &str = "FINCH_PID";

/// The files of a finished model, in the folder `model` of the trainer's output.
pub mod files {
    /// The folder.
    pub const MODEL: &str = "model";
    /// The architecture, in the Hugging Face form.
    pub const CONFIG: &str = "config.json";
    /// The weights, where one file holds them.
    pub const WEIGHTS: &str = "model.safetensors";
    /// Which file holds which tensor, where several hold the weights.
    pub const WEIGHTS_INDEX: &str = "model.safetensors.index.json";
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
    /// The folder of the events that TensorBoard shows.
    pub const TENSORBOARD: &str = "tensorboard";
}
