//! Checkpoints to resume from, and the finished model.
//!
//! ```text
//! checkpoints/step-00000040/{state.json, weights.safetensors, optimizer.safetensors, losses.parquet}
//! model/{config.json, model.safetensors, tokenizer.json, ...}
//! finished.json
//! ```
//!
//! Each is written aside, synced and renamed, so a full disk or a killed process leaves what was there before. A
//! resumed training is the one that was stopped or none: config, base and data must be the same, wherever they lie.
//! What is read back is checked against the digests that were written with it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use finch_core::training::{Config, Environment, Finish, Start, files};
use finch_core::{Code, Digest};
use serde::{Deserialize, Serialize};

use super::{AdamW, Model, tensors};
use finch_train::error::{Error, Result};
use finch_train::log::complain;
use finch_train::losses::{self, ExampleLoss};

/// Checkpoints that are kept: the newest, and one before it.
const KEPT: usize = 2;
const VERSION: u32 = 2;
const FOLDER: &str = "checkpoints";
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const FINISHED: &str = "finished.json";

/// Which training a folder holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    /// The config, without what changes no weight and without where the base lies.
    config: serde_json::Value,
    /// What the base says.
    base: Digest,
    /// Where the numbers come from: libtorch's version and the kind of device.
    machine: String,
    /// The `rows` digest of the packs.
    data: Digest,
}

#[derive(Serialize, Deserialize)]
struct State {
    identity: Identity,
    /// Steps done.
    step: u64,
    /// Updates done by the optimizer.
    updates: u64,
    /// The digest of every other file of the checkpoint.
    files: BTreeMap<String, Digest>,
    /// The digest of all of the above.
    seal: Option<Digest>,
}

impl State {
    /// The digest of everything but the seal.
    fn digest(&self) -> Digest {
        let unsealed = serde_json::json!([self.identity, self.step, self.updates, self.files]);
        Digest::of_bytes(finch_core::manifest::canonical_json(&unsealed).as_bytes())
    }
}

/// What a training goes on from, besides weights and moments.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    /// Steps done; none when the training begins.
    pub(crate) step: Option<u64>,
    /// Losses that were measured so far.
    pub(crate) losses: Vec<ExampleLoss>,
}

/// The record of a finished training, for whoever asks for it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    identity: Identity,
    pub(crate) start: Start,
    pub(crate) finish: Finish,
    /// The digest of every file of the model, and of the losses.
    files: BTreeMap<String, Digest>,
}

impl Identity {
    pub(crate) fn new(config: &Config, base: Digest, data: Digest, environment: &Environment) -> Self {
        let mut config = serde_json::to_value(config).unwrap_or_default();
        if let Some(fields) = config.as_object_mut() {
            for key in ["base", "base_digest", "checkpoint_every"] {
                fields.remove(key);
            }
        }
        let libtorch = environment.versions.get("libtorch").map_or("", String::as_str);
        let kind = environment.device.split(':').next().unwrap_or("");
        Self { version: VERSION, config, base, machine: format!("libtorch {libtorch} on {kind}"), data }
    }

    /// Refuses a folder that holds another training.
    fn check(&self, found: &Self, out: &Path) -> Result<()> {
        if self == found {
            return Ok(());
        }
        let what = match (self.version == found.version, self.data == found.data, self.base == found.base) {
            (false, ..) => "of another version of finch-train",
            (_, false, _) => "with other data",
            (.., false) => "of another base",
            _ if self.config == found.config => return Err(self.elsewhere(found, out)),
            _ => "with another config",
        };
        Err(Error::Usage(format!(
            "`{}` holds a training {what}; name another --out, or remove it",
            out.display()
        )))
    }
}

impl Identity {
    /// The same training on another machine: it could go on, and would not come to the same weights.
    fn elsewhere(&self, found: &Self, out: &Path) -> Error {
        let (then, now) = (&found.machine, &self.machine);
        Error::Usage(format!(
            "`{}` holds a training with {then}, and this is {now}; name another --out, or remove it",
            out.display()
        ))
    }
}

impl Finished {
    /// The record of a training whose model and losses are in `out`, and are hashed here; `finish` gets the digest of
    /// the weights.
    pub(crate) fn new(
        identity: Identity,
        start: Start,
        finish: impl FnOnce(Digest) -> Finish,
        out: &Path,
    ) -> Result<Self> {
        let files = outputs(out)?;
        let weights = files.get(&format!("{}/{}", files::MODEL, files::WEIGHTS));
        let weights = *weights.ok_or_else(|| Error::Torch("the model was not written".to_owned()))?;
        Ok(Self { identity, start, finish: finish(weights), files })
    }

    /// The finished training in a folder, if there is one. A record that cannot be read, or whose model is gone or
    /// damaged, is none: the last checkpoint is at hand.
    pub(crate) fn find(out: &Path, identity: &Identity) -> Result<Option<Self>> {
        let path = out.join(FINISHED);
        let finished = match read_json::<Self>(&path) {
            Ok(None) => return Ok(None),
            Ok(Some(finished)) => finished,
            Err(error) => {
                complain(&format!("{error}; the training is finished again"));
                return Ok(None);
            }
        };
        identity.check(&finished.identity, out)?;
        let there = outputs(out).unwrap_or_default();
        let names = finished.files.keys().chain(there.keys());
        let Some(bad) = names.into_iter().find(|name| finished.files.get(*name) != there.get(*name)) else {
            return Ok(Some(finished));
        };
        complain(&format!("`{}` is missing, damaged or new; all is written again", out.join(bad).display()));
        Ok(None)
    }

    /// Says that the training is done; the last file to be written.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        let (path, aside) = (out.join(FINISHED), out.join(format!(".{FINISHED}.tmp")));
        write_json(&aside, self)?;
        fs::rename(&aside, &path).map_err(Error::io("write", &path))?;
        Ok(finch_core::shard::sync_folder(out)?)
    }
}

/// The files that a finished training leaves in `out`, by name, with their digests.
fn outputs(out: &Path) -> Result<BTreeMap<String, Digest>> {
    let model = out.join(files::MODEL);
    let mut paths = vec![(files::LOSSES.to_owned(), out.join(files::LOSSES))];
    // Without anything held out there are no losses.
    paths.retain(|(_, path)| path.exists());
    for entry in fs::read_dir(&model).map_err(Error::io("list", &model))? {
        let entry = entry.map_err(Error::io("list", &model))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        paths.push((format!("{}/{name}", files::MODEL), entry.path()));
    }
    paths.into_iter().map(|(name, path)| Ok((name, finch_core::digest::of_file(&path)?))).collect()
}

/// Writes a checkpoint, then removes those that are too old; its folder.
pub(crate) fn save(
    out: &Path,
    identity: &Identity,
    step: u64,
    model: &Model,
    optimizer: &AdamW,
    losses: &[ExampleLoss],
) -> Result<PathBuf> {
    let folder = out.join(FOLDER);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let target = folder.join(format!("step-{step:08}"));
    publish(out, &target, |aside| {
        tensors::write(&aside.join(WEIGHTS), &model.parameters)?;
        tensors::write(&aside.join(OPTIMIZER), &optimizer.state())?;
        losses::write(&aside.join(files::LOSSES), losses)?;
        let mut digests = BTreeMap::new();
        for name in [WEIGHTS, OPTIMIZER, files::LOSSES] {
            digests.insert(name.to_owned(), finch_core::digest::of_file(&aside.join(name))?);
        }
        let mut state = State {
            identity: identity.clone(),
            step,
            updates: optimizer.updates,
            files: digests,
            seal: None,
        };
        state.seal = Some(state.digest());
        write_json(&aside.join(STATE), &state)
    })?;
    let mut all = steps(&folder)?;
    all.truncate(all.len().saturating_sub(KEPT));
    for (_, old) in all {
        // One that cannot be removed takes space and does no harm.
        let _ = fs::remove_dir_all(old);
    }
    Ok(target)
}

/// Puts the newest checkpoint that is whole into a model and an optimizer that are shaped for it.
pub(crate) fn resume(
    out: &Path,
    identity: &Identity,
    model: &Model,
    optimizer: &mut AdamW,
) -> Result<Resumed> {
    let folder = out.join(FOLDER);
    let mut damaged = None;
    for (_, checkpoint) in steps(&folder)?.into_iter().rev() {
        match load(&checkpoint, out, identity, model, optimizer) {
            Ok(resumed) => return Ok(resumed),
            Err(error @ Error::Usage(_)) => return Err(error),
            Err(error) => {
                complain(&format!("the checkpoint `{}` is not used: {error}", checkpoint.display()));
                damaged = Some(error);
            }
        }
    }
    match damaged {
        None => Ok(Resumed::default()),
        Some(error) => Err(Error::Model {
            path: folder,
            reason: format!("no checkpoint is whole; the last that was tried: {error}"),
            code: Code::BadCheckpoint,
            hint: Some("remove that folder to start from the beginning".to_owned()),
        }),
    }
}

fn load(
    checkpoint: &Path,
    out: &Path,
    identity: &Identity,
    model: &Model,
    optimizer: &mut AdamW,
) -> Result<Resumed> {
    let path = checkpoint.join(STATE);
    let state: State = read_json(&path)?.ok_or_else(|| {
        Error::io("read", &path)(std::io::Error::new(std::io::ErrorKind::NotFound, "it is not there"))
    })?;
    if state.seal != Some(state.digest()) {
        return Err(Error::Model {
            path,
            reason: "its BLAKE3 is not the one that was written with it".to_owned(),
            code: Code::BadCheckpoint,
            hint: None,
        });
    }
    identity.check(&state.identity, out)?;
    for name in [WEIGHTS, OPTIMIZER, files::LOSSES] {
        let path = checkpoint.join(name);
        if state.files.get(name) != Some(&finch_core::digest::of_file(&path)?) {
            return Err(Error::Model {
                path,
                reason: "its BLAKE3 is not the one that was written with it".to_owned(),
                code: Code::BadCheckpoint,
                hint: None,
            });
        }
    }
    tensors::read_into(&checkpoint.join(WEIGHTS), &model.parameters)?;
    tensors::read_into(&checkpoint.join(OPTIMIZER), &optimizer.restore(state.updates))?;
    Ok(Resumed { step: Some(state.step), losses: losses::read(&checkpoint.join(files::LOSSES))? })
}

/// The newest checkpoint's folder, for messages.
pub(crate) fn newest(out: &Path) -> Option<PathBuf> {
    steps(&out.join(FOLDER)).ok()?.pop().map(|(_, folder)| folder)
}

/// Writes the finished model.
pub(crate) fn write_model(
    out: &Path,
    model: &Model,
    config: &Config,
    companions: &[(String, Vec<u8>)],
) -> Result<()> {
    publish(out, &out.join(files::MODEL), |aside| {
        tensors::write(&aside.join(files::WEIGHTS), &model.parameters)?;
        write_json(&aside.join(files::CONFIG), &model.shape.written(config.dtype))?;
        companions.iter().try_for_each(|(name, bytes)| write_bytes(&aside.join(name), bytes))
    })
}

/// Checkpoints in a folder, oldest first.
fn steps(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(step) = name.strip_prefix("step-").and_then(|step| step.parse().ok()) {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// Fills a folder beside its place and renames it there; what stands there already gives way once the new one is
/// whole. When that fails nothing is left of the new one, and the error says what there is in `out` to go on from.
fn publish(out: &Path, target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let beside = |ending: &str| target.with_file_name(format!(".{name}.{ending}"));
    let (aside, old) = (beside("tmp"), beside("old"));
    let _ = (fs::remove_dir_all(&aside), fs::remove_dir_all(&old));
    let attempt = || -> Result<()> {
        fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
        fill(&aside)?;
        finch_core::shard::sync_folder(&aside)?;
        if target.exists() {
            fs::rename(target, &old).map_err(Error::io("replace", target))?;
        }
        fs::rename(&aside, target).map_err(Error::io("write", target))?;
        finch_core::shard::sync_folder(target.parent().unwrap_or(target))?;
        // What cannot be removed takes space and does no harm.
        let _ = fs::remove_dir_all(&old);
        Ok(())
    };
    attempt().map_err(|error| {
        let _ = fs::remove_dir_all(&aside);
        let kept = newest(out).map_or(
            "there was no checkpoint yet: the same command starts from the beginning".to_owned(),
            |kept| {
                format!(
                    "the checkpoint in `{}` was not touched; the same command goes on from it",
                    kept.display()
                )
            },
        );
        match error {
            Error::Io { action, path, source, hint: None } => {
                Error::Io { action, path, source, hint: Some(kept) }
            }
            // Hashing and syncing are of the library that both programs share.
            Error::Core(finch_core::Error::Io { action, path, source }) => {
                Error::Io { action, path, source, hint: Some(kept) }
            }
            other => other,
        }
    })
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| Error::io("read", path)(std::io::Error::other(source)))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value);
    write_bytes(path, &text.map_err(|source| Error::io("write", path)(std::io::Error::other(source)))?)
}

fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}
