//! What a finished trainer leaves, checked and taken into the dataset: the model and the losses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use finch_core::Digest;
use finch_core::shard::read;
use finch_core::training::{Start, digest_of_weights, files};

use super::Context;
use crate::code::Code;
use crate::contract::{Contract, conform};
use crate::error::{Error, Result};
use crate::store::{Draft, is_artifact};

/// Takes the model's files into the dataset; returns the digest of its weights, which must be the announced ones.
pub(super) fn adopt_model(
    context: &Context<'_>,
    draft: &mut Draft,
    folder: &Path,
    announced: Digest,
) -> Result<Digest> {
    let broken = |reason: String| {
        let hint = "finch and finch-train are perhaps not of one version";
        context.error(Code::TrainerDied, reason, Some(hint))
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !file || !is_artifact(&format!("{}/{name}", files::MODEL)) {
            return Err(broken(format!(
                "the trainer left `{name}` in its model, which is no file of a model"
            )));
        }
        names.push(name);
    }
    names.sort();
    let mut needed = vec![files::CONFIG.to_owned(), files::TOKENIZER.to_owned()];
    match names.iter().any(|name| name == files::WEIGHTS_INDEX) {
        true => needed.extend(shards(folder).map_err(&broken)?),
        false => needed.push(files::WEIGHTS.to_owned()),
    }
    for needed in needed {
        if !names.contains(&needed) {
            return Err(broken(format!("the trainer's model has no `{needed}`")));
        }
    }
    let mut adopted = Vec::new();
    for name in names {
        let entry = draft.adopt(&format!("{}/{name}", files::MODEL), &folder.join(&name))?;
        adopted.push((name, entry.blake3));
    }
    let weights = digest_of_weights(adopted.iter().map(|(name, digest)| (name.as_str(), *digest)));
    if weights != Some(announced) {
        let (is, said) = (weights.map_or_else(String::new, |weights| weights.short()), announced.short());
        return Err(broken(format!("the digest of the weights is {is}, and the trainer announced {said}")));
    }
    Ok(announced)
}

/// The files that a model's index names; or what is wrong with it.
fn shards(folder: &Path) -> Result<BTreeSet<String>, String> {
    let index = files::WEIGHTS_INDEX;
    let unread = |why: String| format!("the `{index}` of the trainer's model cannot be read: {why}");
    let text = std::fs::read(folder.join(index)).map_err(|error| unread(error.to_string()))?;
    let read: Index = serde_json::from_slice(&text).map_err(|error| unread(error.to_string()))?;
    match read.weight_map.is_empty() {
        true => Err(unread("it names no tensor".to_owned())),
        false => Ok(read.weight_map.into_values().collect()),
    }
}

/// An index of weights, as far as it says where they lie.
#[derive(serde::Deserialize)]
struct Index {
    /// The file of each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Writes the table of losses from the trainer's file. Without anything held out there need be no file.
pub(super) fn write_losses(
    context: &Context<'_>,
    draft: &mut Draft,
    path: &Path,
    start: &Start,
) -> Result<()> {
    let schema = Contract::of("losses").schema(&[]);
    let mut writer = draft.writer("losses", &schema)?;
    if path.exists() || start.held_out.examples > 0 {
        for batch in read(path)? {
            let batch = batch.map_err(|source| {
                let reason = format!("the trainer's `{}` cannot be read: {source}", files::LOSSES);
                context.error(Code::Table, reason, None)
            })?;
            writer.write(&conform("losses", &schema, &batch)?)?;
        }
    }
    draft.finish("losses", writer)?;
    Ok(())
}
