//! `train`: starts the trainer, listens to it, and makes a dataset of what it leaves.
//!
//! The trainer is another program, because a machine with an accelerator should need nothing else of finch. It
//! gets a config and a dataset of packs, and answers with lines of [`finch_core::training::Event`]. Its folder in
//! the store outlives a build that is killed, and the next build resumes from it. No number is computed here.

mod launch;
mod output;
mod process;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use finch_core::manifest::Counts;
use finch_core::training::{self, Base, files};

pub(crate) use self::launch::find_trainer;
use self::process::Done;
use super::{Context, Outcome, Trained};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::spec::Train;
use crate::store::{BestEvaluation, Draft, TrainingRecord, write_synced};

/// The trainer's output below its work folder; gone when the dataset is published.
const OUT: &str = "out";

/// Where a training works, held by one build at a time: until its dataset is published and the folder is cleared.
pub struct Work {
    folder: PathBuf,
    lock: File,
}

impl Work {
    /// Sets the folder up and holds it. The lock is the trainer's standard input, so a trainer that outlived its
    /// build still holds the folder.
    fn open(context: &Context<'_>) -> Result<Self> {
        let folder = absolute(&context.store.training(context.fingerprint))?;
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        match Self::hold(folder.clone())? {
            Some(work) => Ok(work),
            None => {
                let reason = format!("another trainer is at work in `{}`", folder.display());
                let hint =
                    "wait until it is done, or end it; the next build goes on from its last checkpoint";
                Err(context.error(Code::TrainerIo, reason, Some(hint)))
            }
        }
    }

    /// Holds a folder; none when another process does.
    fn hold(folder: PathBuf) -> Result<Option<Self>> {
        let path = folder.join("lock");
        let lock = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(Error::io("open", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Some(Self { folder, lock })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", path)(error)),
        }
    }

    fn out(&self) -> PathBuf {
        self.folder.join(OUT)
    }

    /// Writes what the trainer is told.
    fn write_config(&self, config: &training::Config) -> Result<PathBuf> {
        let path = self.folder.join("config.json");
        // All else in it can be written; JSON has no other bytes than text's.
        let text = serde_json::to_vec_pretty(config).map_err(|_| {
            Error::Environment("the path of the base model holds bytes that are no text".to_owned())
        })?;
        write_synced(&path, &text)?;
        Ok(path)
    }
}

pub(super) fn run(config: &Train, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let packed = &context.inputs[0];
    if packed.table("packs").is_none_or(|table| table.from.is_some()) {
        let reason = format!("`{}` has no packs of its own", config.input.stage);
        return Err(context.error(Code::BadPacks, reason, Some("read a pack stage")));
    }
    let trainer = find_trainer(&context.stage.name)?;
    let work = Work::open(context)?;
    let told = work.write_config(&resolved(config, context)?)?;
    let command =
        launch::command(&config.launcher, &trainer, &told, &absolute(&packed.folder()?)?, &work.out());
    let Done { start, finish } = process::train(context, &command, &work.folder, &work.out(), &work.lock)?;

    let model = output::adopt_model(context, draft, &work.out().join(files::MODEL), finish.weights)?;
    output::write_losses(context, draft, &work.out().join(files::LOSSES), &start)?;
    draft.pass_on(packed, &["removed", "quarantine"]);
    let environment = start.environment;
    let record = TrainingRecord {
        seconds: finish.seconds,
        tokens_seen: finish.tokens_seen,
        steps: finish.step,
        device: environment.device.clone(),
        device_name: environment.device_name.clone(),
        resumed_from: start.resumed_from,
        memory: Some(finish.memory),
        best: finish.best.map(|best| BestEvaluation { step: best.step, loss: best.loss }),
    };
    let mut toolchain = environment.versions;
    toolchain.insert("device".to_owned(), environment.device);
    toolchain.insert("device_name".to_owned(), environment.device_name);
    toolchain.insert("threads".to_owned(), environment.threads.to_string());
    toolchain.insert("deterministic".to_owned(), environment.deterministic.to_string());
    toolchain.extend(environment.driver.map(|driver| ("driver".to_owned(), driver)));
    // What the process saw depends on where it resumed, so it goes to the build's record; this does not.
    let counts = Counts {
        input: start.train.examples,
        used: start.reached.examples,
        reasons: BTreeMap::from([
            ("steps".to_owned(), finish.step),
            ("parameters".to_owned(), start.parameters),
            ("tokens".to_owned(), start.reached.tokens),
            ("trained_tokens".to_owned(), start.reached.trained_tokens),
        ]),
        ..Counts::default()
    };
    let training = Some(Box::new(Trained { weights: model, toolchain, record, work }));
    Ok(Outcome { row_table: "losses", counts, warnings: vec![], training, reading: None })
}

/// Clears the work folder of a dataset that is published: the config, the log and what TensorBoard shows stay, to be
/// read by people. A build that was killed between the two leaves it to the next one, which holds nothing yet.
pub(super) fn settle(folder: &Path, work: Option<Work>) {
    let out = folder.join(OUT);
    if !out.exists() {
        return;
    }
    let work = work.or_else(|| Work::hold(folder.to_path_buf()).ok().flatten());
    if work.is_some() {
        // None of it is worth failing a finished build for.
        let _ = fs::rename(out.join(files::LOG), folder.join(files::LOG));
        let (board, kept) = (out.join(files::TENSORBOARD), folder.join(files::TENSORBOARD));
        if board.exists() {
            // A folder takes no other one's place; there is one where the dataset was removed and trained again.
            let _ = fs::remove_dir_all(&kept);
            let _ = fs::rename(board, kept);
        }
        let _ = fs::remove_dir_all(&out);
    }
}

/// The step after which an unfinished training would go on, from its work folder.
pub(crate) fn goes_on_after(work: &Path) -> Option<u64> {
    process::last_checkpoint(&work.join(OUT))
}

/// The config with the pipeline's seed and paths that hold anywhere on this machine.
fn resolved(config: &Train, context: &Context<'_>) -> Result<training::Config> {
    let base = match &config.config.base {
        Base::Checkpoint(folder) => Base::Checkpoint(absolute(folder)?),
        Base::Config { config, init } => Base::Config { config: absolute(config)?, init: *init },
    };
    let (base_digest, seed) = (context.file, context.pipeline.seed);
    Ok(training::Config { base, base_digest, seed, ..config.config.clone() })
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io("resolve", path))
}
