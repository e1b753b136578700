//! The forms of logs that finch reads: whose they are, and what the scaffold itself says of them.
//!
//! One table, so that a new form is one line here, one line in [`super::recognise`] or [`super::discover`], and one
//! reader. What depends on a single log is not here.

use super::record::FileLog;
use super::{LogFile, Scratch, config, mapping, record, scaffold};
use crate::catalog::Direction;
use crate::error::Result;

/// The form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Format {
    /// OpenEvolve: one program as JSON, from a checkpoint or a database folder.
    OpenEvolveProgram,
    /// OpenEvolve: an evolution trace, JSON lines or one JSON document.
    OpenEvolveTrace,
    /// OpenEvolve: all programs as one JSON object by id.
    OpenEvolveBulk,
    /// OpenEvolve: an evolution trace in HDF5.
    OpenEvolveHdf5,
    /// OpenEvolve: what the program printed while it ran.
    OpenEvolveConsole,
    /// ThetaEvolve: one program as JSON.
    ThetaProgram,
    /// ThetaEvolve: all programs as one JSON object by id.
    ThetaBulk,
    /// ThetaEvolve: a database of a training step.
    ThetaDatabase,
    /// ShinkaEvolve: a results folder, with a database, with folders of generations, or both.
    ShinkaFolder,
    /// SkyDiscover: one program as JSON.
    SkyDiscoverProgram,
    /// CodeEvolve: the checkpoint of an island, pickled.
    CodeEvolvePickle,
    /// GEPA: a run's folder, with its state as a pickle or as JSON.
    GepaFolder,
    /// EoH: samples and populations.
    EohFolder,
    /// ReEvo: a working folder of responses and outputs.
    ReevoFolder,
    /// FunSearch (kitft): a folder of prompts and responses.
    FunsearchFolder,
    /// FunSearch (kitft): the database of programs, pickled.
    FunsearchPickle,
    /// DGM: an output folder.
    DgmFolder,
    /// Records that a mapping describes; which one, and so whose, the log says.
    Mapped,
    /// A configuration beside a log, whoever wrote it.
    Config,
    /// Looks like a log and is none that is known.
    Foreign,
}

/// What is known of a form.
struct Facts {
    word: &'static str,
    scaffold: &'static str,
    /// The scaffold's own fitness and its direction, which nobody else can set.
    fitness: (&'static str, Option<Direction>),
    /// Whether all that lies in one folder is one run, because ids are counters or the roots are many.
    one_run: bool,
    read: fn(&LogFile, &Scratch) -> Result<FileLog>,
}

/// The fitness key of OpenEvolve, ShinkaEvolve and their relatives; all maximise it.
pub const COMBINED: &str = "combined_score";

const MAX: Option<Direction> = Some(Direction::Maximize);
const MIN: Option<Direction> = Some(Direction::Minimize);

impl Format {
    /// All forms.
    pub const ALL: [Self; 20] = [
        Self::OpenEvolveProgram,
        Self::OpenEvolveTrace,
        Self::OpenEvolveBulk,
        Self::OpenEvolveHdf5,
        Self::OpenEvolveConsole,
        Self::ThetaProgram,
        Self::ThetaBulk,
        Self::ThetaDatabase,
        Self::ShinkaFolder,
        Self::SkyDiscoverProgram,
        Self::CodeEvolvePickle,
        Self::GepaFolder,
        Self::EohFolder,
        Self::ReevoFolder,
        Self::FunsearchFolder,
        Self::FunsearchPickle,
        Self::DgmFolder,
        Self::Mapped,
        Self::Config,
        Self::Foreign,
    ];

    fn facts(self) -> Facts {
        let facts = |word, scaffold, fitness, one_run, read| Facts { word, scaffold, fitness, one_run, read };
        use scaffold as s;
        match self {
            Self::OpenEvolveProgram => {
                facts("openevolve program", "openevolve", (COMBINED, MAX), false, s::openevolve::read)
            }
            Self::OpenEvolveTrace => {
                facts("openevolve trace", "openevolve", (COMBINED, MAX), false, s::trace::read)
            }
            Self::OpenEvolveBulk => {
                facts("openevolve programs in bulk", "openevolve", (COMBINED, MAX), false, s::bulk::read)
            }
            Self::OpenEvolveHdf5 => {
                facts("openevolve trace in hdf5", "openevolve", (COMBINED, MAX), false, s::hdf5::read)
            }
            Self::OpenEvolveConsole => {
                facts("openevolve console", "openevolve", (COMBINED, MAX), false, s::console::read)
            }
            Self::ThetaProgram => {
                facts("thetaevolve program", "thetaevolve", (COMBINED, MAX), false, s::openevolve::read)
            }
            Self::ThetaBulk => {
                facts("thetaevolve programs in bulk", "thetaevolve", (COMBINED, MAX), false, s::bulk::read)
            }
            Self::ThetaDatabase => {
                facts("thetaevolve database", "thetaevolve", (COMBINED, MAX), false, s::bulk::read)
            }
            Self::ShinkaFolder => facts("shinka folder", "shinka", (COMBINED, MAX), true, s::shinka::read),
            Self::SkyDiscoverProgram => {
                facts("skydiscover program", "skydiscover", (COMBINED, MAX), true, s::skydiscover::read)
            }
            Self::CodeEvolvePickle => {
                facts("codeevolve checkpoint", "codeevolve", ("fitness", MAX), true, s::codeevolve::read)
            }
            Self::GepaFolder => facts("gepa folder", "gepa", ("val_score", MAX), true, s::gepa::read),
            Self::EohFolder => facts("eoh folder", "eoh", ("objective", MIN), true, s::eoh::read),
            Self::ReevoFolder => facts("reevo folder", "reevo", ("objective", MIN), true, s::reevo::read),
            Self::FunsearchFolder => {
                facts("funsearch folder", "funsearch", ("score", MAX), true, s::funsearch::read)
            }
            Self::FunsearchPickle => {
                facts("funsearch database", "funsearch", ("score", MAX), true, s::funsearch::read_database)
            }
            Self::DgmFolder => facts("dgm folder", "dgm", ("accuracy_score", MAX), true, s::dgm::read),
            Self::Mapped => facts("mapped", "mapped", ("score", None), false, mapping::read),
            Self::Config => facts("configuration", "", ("", None), false, config::read),
            Self::Foreign => facts("foreign", "", ("", None), false, |file, _| Ok(record::foreign(file))),
        }
    }

    /// The scaffold that writes it; `None` for what is no log.
    pub fn scaffold(self) -> Option<&'static str> {
        Some(self.facts().scaffold).filter(|word| !word.is_empty())
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        self.facts().word
    }

    /// The form of this name.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.word() == word)
    }

    /// The scaffold's own fitness key and the direction that its writer gave it.
    pub fn fitness(self) -> (&'static str, Option<Direction>) {
        self.facts().fitness
    }

    /// Whether all that lies in one folder is one run, whatever the ids say.
    pub fn is_one_run(self) -> bool {
        self.facts().one_run
    }

    /// Whether a file is one program, as OpenEvolve and its relatives keep them in folders `programs`.
    pub fn is_program_file(self) -> bool {
        matches!(self, Self::OpenEvolveProgram | Self::ThetaProgram | Self::SkyDiscoverProgram)
    }

    /// Reads one log. What cannot be read is in the result, not an error: the rest goes on.
    pub fn read(self, file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
        (self.facts().read)(file, scratch)
    }
}

/// Every scaffold whose logs finch knows: by readers in the order of the table, then by the mappings that are built in.
pub fn scaffolds() -> Vec<&'static str> {
    let native = Format::ALL.into_iter().filter(|format| *format != Format::Mapped);
    let mut words: Vec<&str> = native.filter_map(Format::scaffold).collect();
    words.extend(mapping::built_in().iter().map(|mapping| mapping.scaffold));
    words.dedup();
    words
}
