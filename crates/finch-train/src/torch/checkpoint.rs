//! Checkpoints to resume from, and the finished model.
//!
//! ```text
//! checkpoints/step-00000040/{state.json, weights.safetensors, optimizer.safetensors, losses.parquet}
//! model/{config.json, model.safetensors, tokenizer.json, ...}
//! finished.json
//! ```
//!
//! Each is written aside, synced and renamed, so a full disk or a killed process leaves what was there before. A
//! resumed training is the one that was stopped or none: config and data must be the same.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use finch_core::Digest;
use finch_core::training::{Config, Finish, Start, files};
use serde::{Deserialize, Serialize};

use super::{AdamW, Model, tensors};
use finch_train::error::{Error, Result};
use finch_train::losses::{self, ExampleLoss};

/// Checkpoints that are kept: the newest, and one before it.
const KEPT: usize = 2;
const VERSION: u32 = 1;
const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
const FINISHED: &str = "finished.json";

/// Which training a folder holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    version: u32,
    /// The config, without what changes no weight.
    config: Config,
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
}

/// The record of a finished training, for whoever asks for it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    identity: Identity,
    pub(crate) start: Start,
    pub(crate) finish: Finish,
}

impl Identity {
    pub(crate) fn new(config: &Config, data: Digest) -> Self {
        let config = Config { checkpoint_every: 0, ..config.clone() };
        Self { version: VERSION, config, data }
    }

    /// Refuses a folder that holds another training.
    fn check(&self, found: &Self, out: &Path) -> Result<()> {
        if self == found {
            return Ok(());
        }
        let what = if self.data == found.data { "another config" } else { "other data" };
        Err(Error::Usage(format!(
            "`{}` holds a training with {what}; name another --out, or remove it",
            out.display()
        )))
    }
}

impl Finished {
    pub(crate) fn new(identity: Identity, start: Start, finish: Finish) -> Self {
        Self { identity, start, finish }
    }

    /// The finished training in a folder, if there is one.
    pub(crate) fn find(out: &Path, identity: &Identity) -> Result<Option<Self>> {
        let path = out.join(FINISHED);
        let Some(finished) = read_json::<Self>(&path)? else { return Ok(None) };
        identity.check(&finished.identity, out)?;
        Ok(Some(finished))
    }

    /// Says that the training is done; the last file to be written.
    pub(crate) fn write(&self, out: &Path) -> Result<()> {
        write_json(&out.join(FINISHED), self)
    }
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
    let folder = out.join("checkpoints");
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let target = folder.join(format!("step-{step:08}"));
    publish(&target, |aside| {
        tensors::write(&aside.join(WEIGHTS), &model.parameters)?;
        tensors::write(&aside.join(OPTIMIZER), &optimizer.state())?;
        losses::write(&aside.join(files::LOSSES), losses)?;
        let state = State { identity: identity.clone(), step, updates: optimizer.updates };
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

/// Puts the newest checkpoint into a model and an optimizer that are shaped for it: (steps done, losses so far).
pub(crate) fn resume(
    out: &Path,
    identity: &Identity,
    model: &Model,
    optimizer: &mut AdamW,
) -> Result<Option<(u64, Vec<ExampleLoss>)>> {
    let Some((_, folder)) = steps(&out.join("checkpoints"))?.pop() else { return Ok(None) };
    let path = folder.join(STATE);
    let state: State = read_json(&path)?.ok_or_else(|| {
        Error::io("read", &path)(std::io::Error::new(
            std::io::ErrorKind::NotFound,
            "the checkpoint is not whole",
        ))
    })?;
    identity.check(&state.identity, out)?;
    tensors::read_into(&folder.join(WEIGHTS), &model.parameters)?;
    tensors::read_into(&folder.join(OPTIMIZER), &optimizer.restore(state.updates))?;
    Ok(Some((state.step, losses::read(&folder.join(files::LOSSES))?)))
}

/// The newest checkpoint's folder, for messages.
pub(crate) fn newest(out: &Path) -> Option<PathBuf> {
    steps(&out.join("checkpoints")).ok()?.pop().map(|(_, folder)| folder)
}

/// Writes the finished model; the digest of its weights. What stands in its place already gives way.
pub(crate) fn write_model(
    out: &Path,
    model: &Model,
    config: &Config,
    companions: &[(String, Vec<u8>)],
) -> Result<Digest> {
    let target = out.join(files::MODEL);
    let mut digest = None;
    if target.exists() {
        fs::remove_dir_all(&target).map_err(Error::io("replace", &target))?;
    }
    publish(&target, |aside| {
        let weights = aside.join(files::WEIGHTS);
        tensors::write(&weights, &model.parameters)?;
        digest = Some(finch_core::digest::of_file(&weights)?);
        write_json(&aside.join(files::CONFIG), &model.shape.written(config.dtype))?;
        companions.iter().try_for_each(|(name, bytes)| write_bytes(&aside.join(name), bytes))
    })?;
    digest.ok_or_else(|| Error::Torch("the model was not written".to_owned()))
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

/// Fills a folder beside its place and renames it there. When that fails nothing is left of it, and what the error
/// says is that what was there before is whole.
fn publish(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let aside = target.with_file_name(format!(".{name}.tmp"));
    let _ = fs::remove_dir_all(&aside);
    let attempt = || -> Result<()> {
        fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
        fill(&aside)?;
        finch_core::shard::sync_folder(&aside)?;
        if target.exists() {
            fs::remove_dir_all(target).map_err(Error::io("replace", target))?;
        }
        fs::rename(&aside, target).map_err(Error::io("write", target))?;
        Ok(finch_core::shard::sync_folder(target.parent().unwrap_or(target))?)
    };
    attempt().map_err(|error| {
        let _ = fs::remove_dir_all(&aside);
        match error {
            Error::Io { action, path, source, hint: None } => {
                let kept = newest(target.parent().and_then(Path::parent).unwrap_or(target));
                let hint = kept.map_or("no earlier checkpoint is there".to_owned(), |kept| {
                    format!(
                        "the checkpoint in `{}` is whole; the same command goes on from it",
                        kept.display()
                    )
                });
                Error::Io { action, path, source, hint: Some(hint) }
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
