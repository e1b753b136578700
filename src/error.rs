//! The one error type of the program: what happened, where, with which stable code, and what to do.
//!
//! Variants carry facts. Turning them into coloured text is the work of `cli::render`.

use std::path::PathBuf;

use crate::code::Code;
use crate::interrupt::Signal;
use crate::spec::SpecError;

/// A result of finch's own operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A spec or a catalogue has mistakes.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A source is missing or unreadable.
    #[error("source `{path}`: {reason}")]
    Source {
        /// As the spec writes it.
        path: String,
        /// What is wrong.
        reason: String,
        /// [`Code::MissingSource`] or [`Code::NothingRecognised`].
        code: Code,
    },
    /// Too many records are unreadable.
    #[error(
        "stage `{stage}`: {quarantined} of {input} records are unreadable ({:.3} %), more than `max_quarantined` \
         allows ({:.3} %):\n{}",
        100.0 * *quarantined as f64 / (*input).max(1) as f64, 100.0 * allowed, files.join("\n")
    )]
    Quarantine {
        /// The stage.
        stage: String,
        /// Unreadable records.
        quarantined: u64,
        /// All records.
        input: u64,
        /// The fraction that the spec allows.
        allowed: f64,
        /// One line a file.
        files: Vec<String>,
    },
    /// A stage could not do its work.
    #[error("stage `{stage}`: {reason}")]
    Stage {
        /// The stage.
        stage: String,
        /// What is wrong.
        reason: String,
        /// What kind of trouble.
        code: Code,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The store cannot be used.
    #[error("{reason}")]
    Store {
        /// What is wrong, with the path.
        reason: String,
        /// What kind of trouble.
        code: Code,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// The operation in words.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A dataset could not be written or read.
    #[error(transparent)]
    Core(#[from] finch_core::Error),
    /// SQL failed.
    #[error("{reason}")]
    Sql {
        /// What the engine said.
        reason: String,
        /// [`Code::Query`], [`Code::ReadOnly`] or [`Code::UnknownTable`].
        code: Code,
        /// What to do about it.
        hint: Option<String>,
    },
    /// A signal asked for an end.
    #[error("{reason}")]
    Interrupted {
        /// Which one.
        signal: Signal,
        /// What it ended.
        reason: String,
        /// How to go on.
        hint: Option<String>,
    },
    /// A command was misused.
    #[error("{0}")]
    Usage(String),
    /// The machine lacks something.
    #[error("{0}")]
    Environment(String),
}

/// What the system said, when a Parquet error is the file system's: a full disk is no damaged table.
fn io_kind(error: &parquet::errors::ParquetError) -> Option<std::io::ErrorKind> {
    if let parquet::errors::ParquetError::External(source) = error {
        return source.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    }
    // Elsewhere the library keeps the text and not the error.
    let text = error.to_string();
    let (_, rest) = text.split_once("(os error ")?;
    let number = rest.split_once(')')?.0.parse().ok()?;
    Some(std::io::Error::from_raw_os_error(number).kind())
}

/// What to do about a file system that takes no more.
fn no_room(kind: std::io::ErrorKind) -> Option<String> {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    let place = match kind {
        StorageFull => "make room on this disk",
        FileTooLarge => "raise the limit on the size of files (`ulimit -f`)",
        QuotaExceeded => "raise the quota",
        _ => return None,
    };
    Some(format!(
        "{place}, or name another store with `--store`; what was finished is kept, and the same command goes on from \
         there"
    ))
}

impl Error {
    /// An I/O error with its place; shaped for `map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }

    /// The same error with the stage that it happened in, where it does not say so itself.
    #[must_use]
    pub fn in_stage(self, stage: &str) -> Self {
        match self {
            Self::Sql { reason, code, hint } => Self::Stage { stage: stage.to_owned(), reason, code, hint },
            other => other,
        }
    }

    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Spec(error) => error.diagnostics.first().map_or(Code::SpecUnreadable, |d| d.code),
            Self::Source { code, .. }
            | Self::Stage { code, .. }
            | Self::Store { code, .. }
            | Self::Sql { code, .. } => *code,
            Self::Quarantine { .. } => Code::TooManyQuarantined,
            Self::Io { .. } => Code::StoreIo,
            Self::Core(error) => match error {
                finch_core::Error::Manifest { .. } => Code::BadManifest,
                finch_core::Error::Key { .. } => Code::DuplicateKey,
                finch_core::Error::Tokenizer(_) => Code::BadTokenizer,
                finch_core::Error::Io { .. } => Code::StoreIo,
                finch_core::Error::Parquet { source, .. } if io_kind(source).is_some() => Code::StoreIo,
                _ => Code::Table,
            },
            Self::Interrupted { .. } => Code::Stopped,
            Self::Usage(_) => Code::Usage,
            Self::Environment(_) => Code::Environment,
        }
    }

    /// What to do about it, where there is something to say.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Stage { hint, .. }
            | Self::Store { hint, .. }
            | Self::Sql { hint, .. }
            | Self::Interrupted { hint, .. } => hint.clone(),
            Self::Quarantine { .. } => Some(
                "mend or remove the files, or raise `max_quarantined` in the ingest stage; what is quarantined can \
                 be queried afterwards"
                    .to_owned(),
            ),
            Self::Io { source, .. } | Self::Core(finch_core::Error::Io { source, .. }) => no_room(source.kind()),
            Self::Core(finch_core::Error::Parquet { source, .. }) => io_kind(source).and_then(no_room),
            _ => None,
        }
    }

    /// The exit code: 1 the checks found something, 2 usage or spec, 3 environment, 129, 130 and 143 after a signal.
    pub fn exit(&self) -> u8 {
        match self {
            Self::Interrupted { signal, .. } => signal.exit(),
            _ => self.code().exit(),
        }
    }
}
