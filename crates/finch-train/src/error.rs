//! The one error type of the trainer: what happened, where, with which stable code, and what to do.

use std::path::{Path, PathBuf};

use finch_core::Code;
use finch_core::training::Failure;

/// A result of the trainer's own operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The config cannot be read, or a value is wrong.
    #[error("config `{path}`: {reason}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the key.
        reason: String,
    },
    /// The data is not what a dataset of packs is.
    #[error("{place}: {reason}")]
    Data {
        /// The file, pack or example.
        place: String,
        /// What is wrong.
        reason: String,
        /// [`Code::BadPacks`], [`Code::Vocabulary`], [`Code::NothingTrained`] or [`Code::NothingToTrain`].
        code: Code,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The base model cannot be used.
    #[error("`{path}`: {reason}")]
    Model {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
        /// [`Code::ModelConfig`] or [`Code::BadCheckpoint`].
        code: Code,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A file operation failed.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// The operation in words.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What survives, where something was being replaced.
        hint: Option<String>,
    },
    /// A dataset could not be read.
    #[error(transparent)]
    Core(#[from] finch_core::Error),
    /// A loss or gradient is not a number.
    #[error("step {step}: {what} is {value}{first}, with the examples {}", examples.join(", "))]
    NotFinite {
        /// The step, from 1; for a held-out loss the steps done.
        step: u64,
        /// `the loss`, `the gradient`, `the held-out loss`, or `a weight`.
        what: &'static str,
        /// `NaN` or `inf`.
        value: String,
        /// Where it shows first, in words that begin with a comma or a space; or nothing.
        first: String,
        /// The examples of the pack, or of the whole step, where it showed.
        examples: Vec<String>,
        /// What to do about it.
        hint: String,
    },
    /// The machine lacks libtorch, CUDA, or the part of the program that needs them.
    #[error("{reason}")]
    Machine {
        /// What is missing, and where it was looked for.
        reason: String,
        /// [`Code::NoLibtorch`], [`Code::NoCuda`] or [`Code::NoTrainer`].
        code: Code,
        /// What to run.
        hint: String,
    },
    /// This machine computes something else than it should.
    #[error("{failed} of {made} comparisons are beyond their limits")]
    Check {
        /// Comparisons that are.
        failed: usize,
        /// All of them.
        made: usize,
    },
    /// There is not enough memory.
    #[error("{reason}")]
    Memory {
        /// What is needed, of what, and what there is.
        reason: String,
        /// What to change.
        hint: String,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(String),
    /// A signal asked for an end.
    #[error(
        "stopped by {signal} {}",
        path.as_ref().map_or("before the first step".to_owned(), |path| format!(
            "after step {step}; the checkpoint is in `{}`", path.display()
        ))
    )]
    Stopped {
        /// `SIGHUP`, `SIGINT` or `SIGTERM`.
        signal: &'static str,
        /// Steps done.
        step: u64,
        /// The checkpoint, when a step was done.
        path: Option<PathBuf>,
    },
    /// A command was misused.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// An I/O error with its place; shaped for `map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source, hint: None }
    }

    /// An error in the data, at a place.
    pub fn packs(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Data {
            place: place.into(),
            reason: reason.into(),
            code: Code::BadPacks,
            hint: Some(
                "`finch verify` says whether the store is damaged; `finch run` makes it again".to_owned(),
            ),
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Config { .. } => Code::TrainingConfig,
            Self::Data { code, .. } | Self::Model { code, .. } | Self::Machine { code, .. } => *code,
            Self::Io { .. } => Code::TrainerIo,
            Self::Core(finch_core::Error::Io { .. }) => Code::TrainerIo,
            Self::Core(finch_core::Error::Tokenizer(_)) => Code::BadTokenizer,
            Self::Core(finch_core::Error::Manifest { .. }) => Code::BadManifest,
            Self::Core(_) => Code::BadPacks,
            Self::NotFinite { .. } => Code::NotFinite,
            Self::Check { .. } => Code::WrongResult,
            Self::Memory { .. } => Code::Memory,
            Self::Torch(_) => Code::Torch,
            Self::Stopped { .. } => Code::Stopped,
            Self::Usage(_) => Code::Usage,
        }
    }

    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Data { hint, .. } | Self::Model { hint, .. } | Self::Io { hint, .. } => hint.clone(),
            Self::Machine { hint, .. } | Self::NotFinite { hint, .. } | Self::Memory { hint, .. } => {
                Some(hint.clone())
            }
            Self::Stopped { path: Some(_), .. } => Some("the same command goes on from there".to_owned()),
            _ => None,
        }
    }

    /// Whether libtorch asked for memory and got none.
    pub fn is_out_of_memory(&self) -> bool {
        let Self::Torch(text) = self else { return false };
        ["out of memory", "can't allocate memory", "not enough memory"]
            .iter()
            .any(|words| text.contains(words))
    }

    /// The exit code: 1 the data is wrong, 2 usage or config, 3 environment, 129, 130 and 143 after a signal.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Stopped { signal: "SIGHUP", .. } => 129,
            Self::Stopped { signal: "SIGINT", .. } => 130,
            Self::Stopped { .. } => 143,
            _ => self.code().exit(),
        }
    }

    /// The error as an event for whoever started the trainer.
    pub fn failure(&self) -> Failure {
        Failure {
            code: self.code().to_string(),
            message: self.to_string(),
            hint: self.hint(),
            exit: self.exit(),
        }
    }
}
