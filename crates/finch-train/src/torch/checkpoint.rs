//! Checkpoints to resume from.
//!
//! ```text
//! checkpoints/step-00000040/{state.json, weights.safetensors, optimizer.safetensors, losses.parquet}
//! model/{config.json, model.safetensors, tokenizer.json, ...}    (export.rs)
//! finished.json                                                  (finished.rs)
//! ```
//!
//! `weights.safetensors` holds what is trained: of a training of adapters, the adapters alone.
//!
//! Each is written aside, synced and renamed, so a full disk or a killed process leaves what was there before. A
//! resumed training is the one that was stopped or none: config, base and data must be the same, wherever they lie.
//! What is read back is checked against the digests that were written with it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use finch_core::training::{Config, Environment, files};
use finch_core::{Code, Digest};
use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::AdamW;
use super::parameters::Parameters;
use super::publish::{publish, read_json, write_json};
use super::tensors::{self, Files, Stored};
use finch_train::error::{Error, Result};
use finch_train::log::complain;
use finch_train::losses::{self, ExampleLoss};

const VERSION: u32 = 4;
const FOLDER: &str = "checkpoints";
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";

/// Which checkpoints are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    /// So many of the newest.
    pub(crate) newest: u64,
    /// The one after so many steps, however old.
    pub(crate) best: Option<u64>,
}

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

/// How far a training is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Steps done.
    pub(crate) step: u64,
    /// Of them, the last so many in a row were left out.
    pub(crate) skipped: u64,
}

#[derive(Serialize, Deserialize)]
struct State {
    identity: Identity,
    point: Point,
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
        let unsealed = serde_json::json!([self.identity, self.point, self.updates, self.files]);
        Digest::of_bytes(finch_core::manifest::canonical_json(&unsealed).as_bytes())
    }
}

/// What a training goes on from, besides weights and moments.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    /// How far it is; none when it begins.
    pub(crate) point: Option<Point>,
    /// Losses that were measured so far.
    pub(crate) losses: Vec<ExampleLoss>,
}

impl Identity {
    pub(crate) fn new(config: &Config, base: Digest, data: Digest, environment: &Environment) -> Self {
        let mut config = serde_json::to_value(config).unwrap_or_default();
        if let Some(fields) = config.as_object_mut() {
            for key in Config::WEIGHTLESS {
                fields.remove(key);
            }
        }
        let libtorch = environment.versions.get("libtorch").map_or("", String::as_str);
        let kind = environment.device.split(':').next().unwrap_or("");
        Self { version: VERSION, config, base, machine: format!("libtorch {libtorch} on {kind}"), data }
    }

    /// The same without the machine: for reading what was made elsewhere.
    pub(crate) fn anywhere(mut self) -> Self {
        self.machine = String::new();
        self
    }

    /// Refuses a folder that holds another training.
    pub(crate) fn check(&self, found: &Self, out: &Path) -> Result<()> {
        let here = Self { machine: found.machine.clone(), ..self.clone() };
        if self == found || (self.machine.is_empty() && here == *found) {
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

/// The folder of the checkpoint after so many steps.
pub(crate) fn folder(out: &Path, step: u64) -> PathBuf {
    out.join(FOLDER).join(format!("step-{step:08}"))
}

/// Writes a checkpoint, then removes those that are not kept; its folder.
pub(crate) fn save(
    out: &Path,
    identity: &Identity,
    point: Point,
    parameters: &Parameters,
    optimizer: &AdamW,
    losses: &[ExampleLoss],
    keep: Keep,
) -> Result<PathBuf> {
    let all = out.join(FOLDER);
    fs::create_dir_all(&all).map_err(Error::io("create", &all))?;
    let target = folder(out, point.step);
    publish(out, &target, |aside| {
        write(&aside.join(WEIGHTS), parameters.named(&parameters.weights))?;
        write(&aside.join(OPTIMIZER), optimizer.state(parameters))?;
        losses::write(&aside.join(files::LOSSES), losses)?;
        let mut digests = BTreeMap::new();
        for name in [WEIGHTS, OPTIMIZER, files::LOSSES] {
            digests.insert(name.to_owned(), finch_core::digest::of_file(&aside.join(name))?);
        }
        let mut state = State {
            identity: identity.clone(),
            point,
            updates: optimizer.updates,
            files: digests,
            seal: None,
        };
        state.seal = Some(state.digest());
        write_json(&aside.join(STATE), &state)
    })?;
    // What stands behind this step was refused when the training was resumed, and is not of it.
    let (mut old, stale): (Vec<_>, Vec<_>) =
        steps(&all)?.into_iter().partition(|(known, _)| *known <= point.step);
    old.truncate(old.len().saturating_sub(usize::try_from(keep.newest).unwrap_or(usize::MAX).max(1)));
    old.retain(|(known, _)| keep.best != Some(*known));
    for (_, folder) in old.into_iter().chain(stale) {
        // One that cannot be removed takes space and does no harm.
        let _ = fs::remove_dir_all(folder);
    }
    Ok(target)
}

fn write(path: &Path, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
    let stored = tensors.into_iter().map(|(name, tensor)| Ok((name, Stored::tensor(tensor)?)));
    let stored: Vec<(String, Stored<'_>)> = stored.collect::<Result<_>>()?;
    tensors::write(path, stored.iter().map(|(name, stored)| (name.as_str(), stored)))
}

/// Puts the newest checkpoint that is whole into a model and an optimizer that are shaped for it.
pub(crate) fn resume(
    out: &Path,
    identity: &Identity,
    parameters: &Parameters,
    optimizer: &mut AdamW,
) -> Result<Resumed> {
    let folder = out.join(FOLDER);
    sweep(&folder);
    let mut damaged = None;
    for (_, checkpoint) in steps(&folder)?.into_iter().rev() {
        match load(&checkpoint, out, identity, parameters, optimizer) {
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

/// Removes what a process that was killed while it saved has left; whoever calls this holds the folder.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".step-") && (name.ends_with(".tmp") || name.ends_with(".old")) {
            // What cannot be removed takes space and does no harm.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A checkpoint's state, when its files are what was written and it is of this training.
fn whole(checkpoint: &Path, out: &Path, identity: &Identity) -> Result<State> {
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
    Ok(state)
}

fn load(
    checkpoint: &Path,
    out: &Path,
    identity: &Identity,
    parameters: &Parameters,
    optimizer: &mut AdamW,
) -> Result<Resumed> {
    let state = whole(checkpoint, out, identity)?;
    read(&checkpoint.join(WEIGHTS), parameters.named(&parameters.weights))?;
    read(&checkpoint.join(OPTIMIZER), optimizer.state(parameters))?;
    optimizer.updates = state.updates;
    Ok(Resumed { point: Some(state.point), losses: losses::read(&checkpoint.join(files::LOSSES))? })
}

/// Copies a file's tensors into others of the same names and shapes; every one must be there.
fn read(path: &Path, targets: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
    let files = Files::of_file(path)?;
    targets.into_iter().try_for_each(|(name, target)| tch::no_grad(|| files.read_into(&name, &target)))
}

/// The weights of a checkpoint alone, for whoever wants a model of it; the checkpoint must be whole and of this training.
pub(crate) fn read_weights(
    checkpoint: &Path,
    out: &Path,
    identity: &Identity,
    parameters: &Parameters,
) -> Result<()> {
    whole(checkpoint, out, identity)?;
    read(&checkpoint.join(WEIGHTS), parameters.named(&parameters.weights))
}

/// The newest checkpoint's folder, for messages.
pub(crate) fn newest(out: &Path) -> Option<PathBuf> {
    steps(&out.join(FOLDER)).ok()?.pop().map(|(_, folder)| folder)
}

/// Every checkpoint with its steps, oldest first.
pub(crate) fn all(out: &Path) -> Result<Vec<(u64, PathBuf)>> {
    steps(&out.join(FOLDER))
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
