//! The record of a finished training: what stands in its folder, for whoever asks for it again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use finch_core::Digest;
use finch_core::training::{Finish, Start, digest_of_weights, files};
use serde::{Deserialize, Serialize};

use super::checkpoint::Identity;
use super::publish::{read_json, write_json};
use finch_train::error::{Error, Result};
use finch_train::log::complain;

/// The file that is written last.
const FINISHED: &str = "finished.json";

/// The record of a finished training, for whoever asks for it again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Finished {
    identity: Identity,
    pub(crate) start: Start,
    pub(crate) finish: Finish,
    /// The digest of every file of the model, and of the losses.
    files: BTreeMap<String, Digest>,
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
        let inside = format!("{}/", files::MODEL);
        let model = files.iter().filter_map(|(name, digest)| Some((name.strip_prefix(&inside)?, *digest)));
        let weights = digest_of_weights(model);
        let weights = weights.ok_or_else(|| Error::Torch("the model was not written".to_owned()))?;
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
