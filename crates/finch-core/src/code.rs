//! Stable error codes: what scripts match on and what `finch explain` describes.
//!
//! A code is never reused for another meaning. The hundreds say where the trouble is: 01 spec, 02 graph,
//! 03 sources, 04 stages, 05 store, 06 SQL, 07 environment, 08 training. finch and its trainer share the table.

use std::fmt;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal,)+) => {
        /// A stable error code, shown as `F0101`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u16)]
        pub enum Code {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl Code {
            /// All codes, in order.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// What the code means, in one or two sentences.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    /// The spec is not TOML.
    Syntax = 101,
    /// A key that finch does not know; unknown keys are errors, because a typing mistake must not change a dataset.
    UnknownKey = 102,
    /// A value has the wrong type.
    WrongType = 103,
    /// A key that must be there is missing.
    MissingKey = 104,
    /// A stage kind that finch does not know.
    UnknownKind = 105,
    /// A value is outside its range, or not one of the words that are allowed.
    BadValue = 106,
    /// DESIGN reserves this key or value for a later version.
    NotYet = 107,
    /// The spec cannot be read.
    SpecUnreadable = 108,
    /// A stage reads from a stage that is not in the spec.
    UnknownInput = 201,
    /// Stages read from each other in a circle.
    Cycle = 202,
    /// A stage reads a table or a column that its input does not have.
    MissingColumn = 203,
    /// SQL in the spec does not parse or does not fit the tables.
    SpecSql = 204,
    /// A source does not exist or cannot be read.
    MissingSource = 301,
    /// Nothing in the sources is a log that finch knows.
    NothingRecognised = 302,
    /// More records are unreadable than `max_quarantined` allows.
    TooManyQuarantined = 303,
    /// A source changed between being hashed and being read; run again when nothing writes to it.
    SourceChanged = 304,
    /// A file cannot be read.
    UnreadableFile = 310,
    /// A record ends in the middle; the file was probably cut off.
    Truncated = 311,
    /// A record is not JSON.
    NotJson = 312,
    /// A file looks like a log but is none that finch knows.
    ForeignFile = 313,
    /// A record lacks a field that its format requires, or has it with another type.
    BadRecord = 314,
    /// A candidate's program text is nowhere in the log.
    NoProgram = 315,
    /// A SQLite database is damaged or is not one.
    BadDatabase = 316,
    /// A record is larger than finch reads.
    TooLarge = 317,
    /// A log of a scaffold, or in a form, whose reader is not built yet.
    UnsupportedLog = 318,
    /// A Python pickle is damaged, or holds an instruction that no pickle of a log needs.
    BadPickle = 319,
    /// An archive holds what finch does not unpack: a link, a device, a name that leads elsewhere, a second file of one
    /// name.
    RefusedEntry = 320,
    /// Records went missing inside a stage. This is a defect of finch.
    NotConserved = 401,
    /// A table's rows are not unique by its key.
    DuplicateKey = 402,
    /// A stage kept nothing.
    EmptyOutput = 403,
    /// An example is longer than `max_tokens` and `over_length` is `error`.
    OverLength = 404,
    /// A hold-out names a task that is neither in the logs nor in the catalogue.
    UnknownTask = 405,
    /// Content is on both sides of the split and `on_leak` is `error`.
    Leak = 406,
    /// A tokenizer cannot be loaded or trained.
    BadTokenizer = 407,
    /// A table could not be written or read.
    Table = 408,
    /// An example is longer than a pack; packing never cuts one.
    OverPack = 409,
    /// A data test found rows that should not be there.
    DataTest = 410,
    /// The store cannot be read or written.
    StoreIo = 501,
    /// A manifest is corrupt. It is never skipped.
    BadManifest = 502,
    /// A dataset's files do not match its manifest.
    Damaged = 503,
    /// The store holds no finished build.
    NothingBuilt = 504,
    /// A table that is not in the store.
    UnknownTable = 505,
    /// A remote store or source cannot be reached, or answers with an error, also when asked again.
    Remote = 506,
    /// Something else is at work on the store, and the two cannot be at once.
    Busy = 507,
    /// The beginning of an id fits nothing in the build, or more than one thing.
    UnknownId = 508,
    /// A remote store or source denies access. Credentials come from the environment and nowhere else.
    Denied = 509,
    /// SQL that does not parse, does not fit the tables, or failed.
    Query = 601,
    /// A statement that would change something; queries only read.
    ReadOnly = 602,
    /// A command was used in a way that it does not understand.
    Usage = 603,
    /// Threads or memory could not be set up.
    Environment = 701,
    /// The trainer's config cannot be read, or a value is not one that it can have.
    TrainingConfig = 801,
    /// A dataset of packs cannot be read, or its files do not match its manifest or each other.
    BadPacks = 802,
    /// A model's `config.json` cannot be read, or asks for an architecture that the trainer does not have.
    ModelConfig = 803,
    /// A checkpoint lacks a tensor, or has one of another shape or type than its config says.
    BadCheckpoint = 804,
    /// The packs hold token ids that the model's vocabulary does not have.
    Vocabulary = 805,
    /// An example has no trained token, so it would count as data and teach nothing.
    NothingTrained = 806,
    /// A loss or a gradient is not a finite number.
    NotFinite = 807,
    /// Training data is missing: no pack is left for it.
    NothingToTrain = 808,
    /// A document is longer than the positions that the model was made for.
    LongDocument = 809,
    /// libtorch is not there, or is not of the version that the trainer was built with.
    NoLibtorch = 811,
    /// CUDA was asked for and cannot be used here.
    NoCuda = 812,
    /// The trainer cannot be found or started.
    NoTrainer = 813,
    /// The trainer cannot write its output.
    TrainerIo = 814,
    /// libtorch refused an operation; out of memory is the usual reason.
    Torch = 815,
    /// The trainer ended before it was done.
    TrainerDied = 816,
    /// A signal asked for an end; what was finished is kept, and a training left a checkpoint.
    Stopped = 817,
    /// A training needs more memory than there is, by its plan or when it asked for it.
    Memory = 818,
    /// A machine computes something else than the reference, by more than rounding explains.
    WrongResult = 819,
}

impl Code {
    /// The code that is written so, such as `F0812`.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.to_string() == text)
    }

    /// The exit code: 1 the checks found something, 2 usage or spec, 3 environment.
    pub fn exit(self) -> u8 {
        match self as u16 {
            ..=302 | 405 | 407 | 504 | 505 | 600..=699 | 801 | 803 => 2,
            303..=499 | 502 | 503 | 508 | 802..=809 => 1,
            _ => 3,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "F{:04}", *self as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_ordered_and_explained() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Code::ALL.iter().all(|code| code.meaning().ends_with('.')));
        assert_eq!(Code::Syntax.to_string(), "F0101");
        assert!(Code::ALL.iter().all(|code| Code::named(&code.to_string()) == Some(*code)));
        assert_eq!(Code::named("F9999"), None);
    }
}
