//! Models for others to load: a checkpoint directory in the Hugging Face form, adapters merged, tensors that the base
//! holds besides carried through.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use finch_core::Code;
use finch_core::training::{Base, Config, digest_of_base, files};
use serde_json::json;
use tch::{Kind, Tensor};

use super::checkpoint::{self, Identity};
use super::linear::Adapter;
use super::publish::{publish, write_bytes, write_json};
use super::tensors::{self, Files, Stored};
use super::weights::{Weights, adapter_names, unknown};
use super::{Model, device};
use finch_train::architecture::Architecture;
use finch_train::cli;
use finch_train::error::{Error, Result};
use finch_train::log::say;
use finch_train::losses;
use finch_train::packs::Packs;
use finch_train::{config, tokenizer};

/// A file of weights holds at most so many bytes, unless one tensor alone has more: what the Hub's tools cut at.
const SHARD_BYTES: usize = 5_000_000_000;

/// Tensors of a base that no formula of the model reads.
pub(crate) struct Carried {
    files: Option<Files>,
    names: Vec<String>,
}

impl Carried {
    /// What a base holds besides the model's weights; a base that is a config holds nothing.
    pub(crate) fn of(base: Option<&Path>, shape: &Architecture) -> Result<Self> {
        let files = base.map(Files::of_checkpoint).transpose()?;
        let names = files.iter().flat_map(|files| unknown(files, shape)).map(str::to_owned).collect();
        Ok(Self { files, names })
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.names.len()
    }

    fn stored(&self) -> Result<Vec<(String, Stored<'_>)>> {
        let Some(files) = &self.files else { return Ok(Vec::new()) };
        self.names.iter().map(|name| Ok((name.clone(), Stored::raw(files.raw(name)?)))).collect()
    }
}

/// Writes a training's model into its folder.
pub(crate) fn write_model(
    out: &Path,
    model: &Model,
    config: &Config,
    carried: &Carried,
    companions: &[(String, Vec<u8>)],
) -> Result<()> {
    write_to(out, &out.join(files::MODEL), model, config, carried, companions, SHARD_BYTES)
}

fn write_to(
    out: &Path,
    target: &Path,
    model: &Model,
    config: &Config,
    carried: &Carried,
    companions: &[(String, Vec<u8>)],
    shard_bytes: usize,
) -> Result<()> {
    publish(out, target, |aside| {
        let mut stored = model.stored()?;
        stored.extend(carried.stored()?);
        write_weights(aside, &stored, shard_bytes)?;
        write_json(&aside.join(files::CONFIG), &model.shape.written(config.dtype))?;
        companions.iter().try_for_each(|(name, bytes)| write_bytes(&aside.join(name), bytes))
    })
}

/// Writes tensors into one file, or into several with an index.
fn write_weights(folder: &Path, stored: &[(String, Stored<'_>)], shard_bytes: usize) -> Result<()> {
    let mut shards: Vec<(usize, Vec<&(String, Stored<'_>)>)> = vec![(0, Vec::new())];
    for entry in stored {
        let bytes = entry.1.bytes();
        match shards.last_mut() {
            Some((size, shard)) if shard.is_empty() || *size + bytes <= shard_bytes => {
                *size += bytes;
                shard.push(entry);
            }
            _ => shards.push((bytes, vec![entry])),
        }
    }
    let write = |name: &str, shard: &[&(String, Stored<'_>)]| {
        tensors::write(&folder.join(name), shard.iter().map(|entry| (entry.0.as_str(), &entry.1)))
    };
    if let [(_, only)] = shards.as_slice() {
        return write(files::WEIGHTS, only);
    }
    let (total, count) = (shards.iter().map(|(size, _)| size).sum::<usize>(), shards.len());
    let mut map = BTreeMap::new();
    for (index, (_, shard)) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{count:05}.safetensors", index + 1);
        write(&name, shard)?;
        map.extend(shard.iter().map(|entry| (entry.0.as_str(), name.clone())));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    write_json(&folder.join(files::WEIGHTS_INDEX), &index)
}

impl Model {
    /// Every weight to be written, adapters merged into what they are beside, in the order of the forward pass.
    fn stored(&self) -> Result<Vec<(String, Stored<'_>)>> {
        self.shape
            .tensors()
            .into_iter()
            .map(|spec| {
                let weight = self.weight(&spec.name)?;
                let stored = match self.adapter(&spec.name) {
                    Some(adapter) => {
                        Stored::made(&weight.shallow_clone(), move || merged(&weight, &adapter))?
                    }
                    None => Stored::tensor(weight)?,
                };
                Ok((spec.name, stored))
            })
            .collect()
    }

    /// The adapter beside a matrix, by the matrix's name.
    fn adapter(&self, name: &str) -> Option<Adapter> {
        let [a, b] = adapter_names(name.strip_suffix(".weight")?);
        let (a, b) = (self.parameters.parameter(&a).ok()?, self.parameters.parameter(&b).ok()?);
        Some(Adapter { a, b, scale: self.scale })
    }
}

/// A matrix with its adapter, rounded once.
fn merged(weight: &Tensor, adapter: &Adapter) -> Tensor {
    tch::no_grad(|| (weight.to_kind(Kind::Float) + adapter.product()).to_kind(weight.kind()))
}

/// `finch-train export`.
pub(crate) fn run(command: &cli::Export) -> Result<()> {
    let config = config::read(&command.config)?;
    // Only copies are made: the CPU does.
    let machine = device::set_up(finch_core::training::Device::Cpu, config.threads, false)?;
    let shape = Architecture::of(&config.base)?;
    let packs = Packs::open(&command.data)?;
    let base = match &config.base {
        Base::Checkpoint(folder) => Some(folder.as_path()),
        Base::Config { .. } => None,
    };
    let companions = tokenizer::companions(packs.folder(), base)?;
    let carried = Carried::of(base, &shape)?;
    let out = command.out.as_path();
    let identity =
        Identity::new(&config, digest_of_base(&config.base)?, packs.digest(), &machine.environment)
            .anywhere();
    let (step, checkpoint) = chosen(command)?;
    if command.to.exists() {
        let place = command.to.display();
        return Err(Error::Usage(format!("`{place}` is there already; name a folder that is not")));
    }
    super::publish::refuse_leftovers(&command.to)?;
    let model = Model::new(Weights::begin(&config, shape, machine.device)?)?;
    checkpoint::read_weights(&checkpoint, out, &identity, &model.parameters)?;
    write_to(out, &command.to, &model, &config, &carried, &companions, SHARD_BYTES)?;
    say(&format!("model of step {step} in {}\n", command.to.display()));
    Ok(())
}

/// The checkpoint that a command means.
fn chosen(command: &cli::Export) -> Result<(u64, PathBuf)> {
    let all = checkpoint::all(&command.out)?;
    let place = command.out.display();
    let steps: Vec<String> = all.iter().map(|(step, _)| step.to_string()).collect();
    let wanted = match (command.step, command.best) {
        (Some(step), _) => Some(step),
        (None, true) => Some(best(&all)?),
        (None, false) => None,
    };
    let found = match wanted {
        Some(wanted) => all.into_iter().find(|(step, _)| *step == wanted),
        None => all.into_iter().next_back(),
    };
    found.ok_or_else(|| {
        let there = if steps.is_empty() { "none".to_owned() } else { steps.join(", ") };
        let wanted = wanted.map_or("a checkpoint".to_owned(), |step| format!("a checkpoint of step {step}"));
        Error::Usage(format!("`{place}` does not hold {wanted}; the steps that it holds: {there}"))
    })
}

/// The step whose held-out loss was the lowest, by what the newest checkpoint remembers.
fn best(all: &[(u64, PathBuf)]) -> Result<u64> {
    let newest = all.last().map(|(_, folder)| folder.join(files::LOSSES));
    let rows = newest.map(|path| losses::read(&path)).transpose()?.unwrap_or_default();
    // The last step of all is the finished model, which needs no export; of the others there may be checkpoints.
    super::training::best(&rows, 1).map(|best| best.step).ok_or_else(|| Error::Model {
        path: PathBuf::from(files::LOSSES),
        reason: "no evaluation is in the newest checkpoint, so none is the best".to_owned(),
        code: Code::BadCheckpoint,
        hint: Some("name a step, with `--step`".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parity::{ALL, Reference, logits};
    use crate::weights::Trained;
    use finch_core::training::DType;
    use finch_train::architecture::Architecture;

    #[test]
    fn a_model_in_several_files_is_the_same_model() {
        for (dtype, trained) in
            [(DType::F32, Trained::All), (DType::Bf16, Trained::Adapters(Default::default()))]
        {
            let reference = Reference::new("qwen3");
            let model = reference.model_of(dtype, &trained);
            for (_, weight) in model.parameters.named(&model.parameters.weights) {
                tch::no_grad(|| drop(weight.shallow_clone().g_add_scalar_(0.01)));
            }
            let folder = tempfile::tempdir().expect("temp dir");
            let stored = model.stored().expect("weights");
            write_weights(folder.path(), &stored, 50_000).expect("write");
            let index = std::fs::read(folder.path().join(files::WEIGHTS_INDEX)).expect("index");
            let index: serde_json::Value = serde_json::from_slice(&index).expect("json");
            let names = index["weight_map"].as_object().expect("a map");
            assert_eq!(names.len(), model.shape.tensors().len());
            let shards = names.values().collect::<std::collections::HashSet<_>>().len();
            assert!(shards > 1 && index["metadata"]["total_size"].as_u64() > Some(50_000), "{index}");
            let shape = Architecture::read(&reference.folder.join("config.json")).expect("config");
            let again = Weights::load(folder.path(), shape, dtype, tch::Device::Cpu, &Trained::Nothing, 0);
            let again = Model::new(again.expect("weights")).expect("model");
            let sequence = reference.sequence(&ALL);
            let off = crate::reference::distance(&logits(&again, &sequence), &logits(&model, &sequence));
            // Merged adapters are rounded to bf16 once.
            let limit = if dtype == DType::F32 { 0.0 } else { 2e-2 };
            assert!(off <= limit, "{off:e}");
        }
    }
}
