//! The weights that a training starts from: a checkpoint directory's, or drawn at random; trained or frozen.

use std::collections::BTreeMap;
use std::path::Path;

use finch_core::training::{Base, Config, DType, Lora, Projection};
use finch_core::{Code, Kind as DigestKind};
use tch::{Device, Kind, Tensor};

use super::Model;
use super::parameters::Parameters;
use super::tensors::Files;
use finch_train::architecture::{Architecture, EMBEDDING, HEAD, TensorSpec, layer_of};
use finch_train::error::{Error, Result};
use finch_train::log::complain;

/// Every weight of a model, before they are put in their places.
pub(crate) struct Weights {
    pub(crate) shape: Architecture,
    pub(crate) kind: Kind,
    pub(crate) device: Device,
    /// What is trained.
    pub(crate) trained: Parameters,
    /// What is not, by name.
    pub(crate) frozen: BTreeMap<String, Tensor>,
    /// `alpha / rank` of adapters.
    pub(crate) scale: f64,
}

/// Which weights are trained.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Trained {
    /// All.
    All,
    /// Adapters beside frozen ones.
    Adapters(Lora),
    /// None.
    Nothing,
}

/// libtorch's name of a type.
pub(crate) fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::F32 => Kind::Float,
        DType::Bf16 => Kind::BFloat16,
    }
}

/// The names of the two matrices beside a projection.
pub(crate) fn adapter_names(projection: &str) -> [String; 2] {
    ["lora_A", "lora_B"].map(|part| format!("{projection}.{part}.weight"))
}

impl Weights {
    /// The weights that a training starts from.
    pub(crate) fn begin(config: &Config, shape: Architecture, device: Device) -> Result<Self> {
        let trained = config.adapters().map_or(Trained::All, Trained::Adapters);
        match &config.base {
            Base::Checkpoint(folder) => {
                Self::load(folder, shape, config.dtype, device, &trained, config.seed)
            }
            Base::Config { .. } => {
                let weights = Self::room(shape, kind(config.dtype), device, &trained, config.seed)?;
                weights.each(|spec, target| {
                    target.shallow_clone().copy_(&drawn(spec, &weights.shape, config.seed));
                    Ok(())
                })?;
                Ok(weights)
            }
        }
    }

    /// The same for timing alone: random weights are drawn where the model is, and are others on another device.
    pub(crate) fn made_up(config: &Config, shape: Architecture, device: Device) -> Result<Self> {
        if let Base::Checkpoint(_) = &config.base {
            return Self::begin(config, shape, device);
        }
        let trained = config.adapters().map_or(Trained::All, Trained::Adapters);
        let weights = Self::room(shape, kind(config.dtype), device, &trained, config.seed)?;
        tch::manual_seed(config.seed as i64);
        weights.each(|spec, target| {
            let _ = tch::no_grad(|| match spec.shape.len() {
                1 => target.shallow_clone().fill_(if spec.name.ends_with(".bias") { 0.0 } else { 1.0 }),
                _ => target.shallow_clone().normal_(0.0, weights.shape.initializer_range),
            });
            Ok(())
        })?;
        Ok(weights)
    }

    /// A checkpoint directory's weights, with new adapters beside them where those are trained.
    pub(crate) fn load(
        folder: &Path,
        shape: Architecture,
        dtype: DType,
        device: Device,
        trained: &Trained,
        seed: u64,
    ) -> Result<Self> {
        let files = Files::of_checkpoint(folder)?;
        check(&files, &shape, folder)?;
        let weights = Self::room(shape, kind(dtype), device, trained, seed)?;
        weights.each(|spec, target| files.read_into(&spec.name, target))?;
        Ok(weights)
    }

    /// Another model's weights in another type or place.
    pub(crate) fn copied(model: &Model, kind: Kind, device: Device) -> Result<Self> {
        let weights = Self::room(model.shape.clone(), kind, device, &Trained::All, 0)?;
        weights.each(|spec, target| {
            let source = model.weight(&spec.name)?;
            tch::no_grad(|| target.shallow_clone().copy_(&source));
            Ok(())
        })?;
        Ok(weights)
    }

    /// Room for a model's weights. Adapters are there already: `A` random, `B` zero, so that the model begins as its base.
    fn room(shape: Architecture, kind: Kind, device: Device, trained: &Trained, seed: u64) -> Result<Self> {
        let (specs, scale) = match trained {
            Trained::All => {
                let trained = Parameters::new(&shape.tensors(), kind, device);
                return Ok(Self { shape, kind, device, trained, frozen: BTreeMap::new(), scale: 0.0 });
            }
            Trained::Adapters(lora) => (adapter_specs(&shape, lora), lora.alpha / f64::from(lora.rank)),
            Trained::Nothing => (Vec::new(), 0.0),
        };
        let trained = Parameters::new(&specs, kind, device);
        for spec in specs.iter().filter(|spec| spec.name.contains("lora_A")) {
            // As `torch.nn.Linear` and peft begin: uniform, bounded by the inverse root of the inputs.
            let bound = (spec.shape[1] as f64).sqrt().recip();
            seeded(&spec.name, seed);
            let drawn =
                Tensor::rand(spec.shape.as_slice(), (Kind::Float, Device::Cpu)) * (2.0 * bound) - bound;
            trained.parameter(&spec.name)?.value.copy_(&drawn);
        }
        let zeros = |spec: TensorSpec| (spec.name, Tensor::zeros(spec.shape.as_slice(), (kind, device)));
        let frozen = shape.tensors().into_iter().map(zeros).collect();
        Ok(Self { shape, kind, device, trained, frozen, scale })
    }

    /// Shows every weight of the model itself, in the order of the forward pass.
    fn each(&self, mut show: impl FnMut(&TensorSpec, &Tensor) -> Result<()>) -> Result<()> {
        for spec in self.shape.tensors() {
            match self.frozen.get(&spec.name) {
                Some(target) => show(&spec, target)?,
                None => show(&spec, &self.trained.parameter(&spec.name)?.value)?,
            }
        }
        Ok(())
    }
}

/// The adapters' matrices, in the order of the forward pass.
fn adapter_specs(shape: &Architecture, lora: &Lora) -> Vec<TensorSpec> {
    let rank = i64::from(lora.rank);
    let mut specs = Vec::new();
    for layer in 0..shape.layers() {
        for (name, target) in Projection::ALL.iter().filter(|(_, target)| lora.targets.contains(target)) {
            let half = match target {
                Projection::QProj | Projection::KProj | Projection::VProj | Projection::OProj => "self_attn",
                Projection::GateProj | Projection::UpProj | Projection::DownProj => "mlp",
            };
            let (outputs, inputs) = shape.projection(*target);
            let names = adapter_names(&format!("model.layers.{layer}.{half}.{name}"));
            for (name, shape) in names.into_iter().zip([[rank, inputs], [outputs, rank]]) {
                specs.push(TensorSpec { name, shape: shape.to_vec() });
            }
        }
    }
    specs
}

/// Checks that a checkpoint holds a model's tensors, and no other tensor that the model would read.
fn check(files: &Files, shape: &Architecture, folder: &Path) -> Result<()> {
    let error = |reason: String| Error::Model {
        path: folder.to_path_buf(),
        reason,
        code: Code::BadCheckpoint,
        hint: Some("`config.json` and the safetensors must be of the same model".to_owned()),
    };
    let wanted = shape.tensors();
    let missing: Vec<&str> =
        wanted.iter().map(|spec| spec.name.as_str()).filter(|name| files.shape(name).is_none()).collect();
    if let Some(first) = missing.first() {
        return Err(error(match missing.len() {
            1 => format!("the checkpoint lacks the tensor `{first}`"),
            n => format!("the checkpoint lacks `{first}` and {} other tensors", n - 1),
        }));
    }
    for spec in &wanted {
        let found = files.shape(&spec.name).unwrap_or_default();
        if found != spec.shape {
            let reason =
                format!("`{}` has the shape {found:?}, and its config says {:?}", spec.name, spec.shape);
            return Err(error(reason));
        }
    }
    // Published tied checkpoints may hold the head all the same; then it is the embedding.
    if shape.tie_word_embeddings && files.shape(HEAD).is_some() {
        let same = files.raw(HEAD)?.bytes() == files.raw(EMBEDDING)?.bytes();
        if !same {
            complain(&format!(
                "`{HEAD}` is not the embedding, to which the config ties the head; it is left out"
            ));
        }
    }
    match unknown(files, shape).find(|name| is_read(name)) {
        Some(name) => {
            Err(error(format!("the checkpoint holds `{name}`, which its config does not speak of")))
        }
        None => Ok(()),
    }
}

/// Names of a checkpoint's tensors that the model's formulas do not read.
pub(crate) fn unknown<'a>(files: &'a Files, shape: &Architecture) -> impl Iterator<Item = &'a str> {
    let known: std::collections::BTreeSet<String> =
        shape.tensors().into_iter().map(|spec| spec.name).collect();
    let tied = shape.tie_word_embeddings;
    // Published tied checkpoints may hold the head all the same; it is the embedding, and is written as that.
    files.names().filter(move |name| !(known.contains(*name) || tied && *name == HEAD))
}

/// Whether a tensor has a name of the decoder's layers, where one that this program does not know would change the
/// model's output. Others (a vision tower's, of layers that predict several tokens) are carried through. Frequencies of
/// rotary positions, which old checkpoints hold, are computed.
fn is_read(name: &str) -> bool {
    layer_of(name).is_some() && !name.ends_with(".rotary_emb.inv_freq")
}

/// Seeds libtorch's generator for one tensor, from its name, so that a weight does not depend on the order in which they
/// are drawn.
fn seeded(name: &str, seed: u64) {
    let digest = DigestKind::Choice.fields().text("random weight").int(seed).text(name).finish();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    tch::manual_seed(i64::from_le_bytes(first));
}

/// A random weight: normal for matrices, one for norms, zero for biases. Drawn on the CPU, the same for every device.
fn drawn(spec: &TensorSpec, shape: &Architecture, seed: u64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    match spec.shape.len() {
        1 if spec.name.ends_with(".bias") => Tensor::zeros(spec.shape.as_slice(), options),
        1 => Tensor::ones(spec.shape.as_slice(), options),
        _ => {
            seeded(&spec.name, seed);
            Tensor::randn(spec.shape.as_slice(), options) * shape.initializer_range
        }
    }
}
