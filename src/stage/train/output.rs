//! What a finished trainer leaves, checked and taken into the dataset: the model and the losses.

use std::path::Path;

use finch_core::Digest;
use finch_core::shard::read;
use finch_core::training::{Start, files};

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
    for needed in [files::CONFIG, files::TOKENIZER, files::WEIGHTS] {
        if !names.iter().any(|name| name == needed) {
            return Err(broken(format!("the trainer's model has no `{needed}`")));
        }
    }
    let mut weights = announced;
    for name in names {
        let entry = draft.adopt(&format!("{}/{name}", files::MODEL), &folder.join(&name))?;
        if name == files::WEIGHTS {
            weights = entry.blake3;
        }
    }
    if weights != announced {
        let (is, said) = (weights.short(), announced.short());
        return Err(broken(format!("the BLAKE3 of the weights is {is}, and the trainer announced {said}")));
    }
    Ok(weights)
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
