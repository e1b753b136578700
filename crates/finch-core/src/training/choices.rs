//! What a training chooses from: its base, method, schedule, types, memory.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What training starts from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Base {
    /// A Hugging Face checkpoint directory: `config.json` and safetensors.
    Checkpoint(PathBuf),
    /// A `config.json` in the Hugging Face form, and weights drawn at random.
    Config {
        /// The file.
        config: PathBuf,
        /// How the weights begin.
        init: Init,
    },
}

/// How weights begin that no checkpoint holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Init {
    /// Normal with the config's `initializer_range`; norms are one. As `transformers` initialises.
    Random,
}

/// What is optimised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Every weight, by cross entropy over the trained tokens.
    #[default]
    Sft,
    /// Matrices of low rank beside frozen weights, by the same loss; merged into them in the finished model.
    Lora,
}

/// The adapters of [`Method::Lora`] (Hu et al., arXiv 2106.09685): `W x` becomes `W x + alpha / rank * B (A x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Lora {
    /// Rows of `A` and columns of `B`.
    #[serde(default = "rank")]
    pub rank: u32,
    /// What the product is scaled with, times the rank.
    #[serde(default = "alpha")]
    pub alpha: f64,
    /// The projections of every layer that get adapters.
    #[serde(default = "Projection::all")]
    pub targets: BTreeSet<Projection>,
}

impl Default for Lora {
    fn default() -> Self {
        Self { rank: rank(), alpha: alpha(), targets: Projection::all() }
    }
}

/// The rank of nanodiscover's published defaults for Qwen3-8B is 32; half of that halves the optimizer's state.
fn rank() -> u32 {
    16
}

/// Twice the default rank, so that the scale is 2.
fn alpha() -> f64 {
    32.0
}

/// A projection of a decoder layer, under its name in Hugging Face checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Projection {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention's output.
    OProj,
    /// The gate of the MLP.
    GateProj,
    /// What the gate lets through.
    UpProj,
    /// The MLP's output.
    DownProj,
}

impl Projection {
    /// All of them with their names, in the order of a layer.
    pub const ALL: [(&'static str, Self); 7] = [
        ("q_proj", Self::QProj),
        ("k_proj", Self::KProj),
        ("v_proj", Self::VProj),
        ("o_proj", Self::OProj),
        ("gate_proj", Self::GateProj),
        ("up_proj", Self::UpProj),
        ("down_proj", Self::DownProj),
    ];

    /// Every projection.
    pub fn all() -> BTreeSet<Self> {
        Self::ALL.map(|(_, projection)| projection).into()
    }
}

/// Bytes that a trained weight takes in all: itself, its gradient, and what AdamW keeps of it.
///
/// With `bf16` weights: 16 has a separate f32 master and both moments in f32. 12 keeps the master's low 16 bits beside
/// the weight, which is the high ones, so the master is exact, and the first moment in bf16. 10 has the second moment
/// in bf16 too. 8 has no master: weights are rounded stochastically. With `f32` weights there is 16 alone: four times
/// four bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(with = "u8", extend("enum" = [16, 12, 10, 8])))]
#[serde(try_from = "u8", into = "u8")]
pub enum StateBytes {
    /// A master of its own, moments in f32.
    #[default]
    Sixteen,
    /// A split master, the first moment in bf16.
    Twelve,
    /// A split master, both moments in bf16.
    Ten,
    /// No master, both moments in bf16.
    Eight,
}

impl From<StateBytes> for u8 {
    fn from(bytes: StateBytes) -> Self {
        match bytes {
            StateBytes::Sixteen => 16,
            StateBytes::Twelve => 12,
            StateBytes::Ten => 10,
            StateBytes::Eight => 8,
        }
    }
}

impl TryFrom<u8> for StateBytes {
    type Error = String;

    fn try_from(bytes: u8) -> Result<Self, String> {
        let all = [Self::Sixteen, Self::Twelve, Self::Ten, Self::Eight];
        let found = all.into_iter().find(|state| u8::from(*state) == bytes);
        found.ok_or_else(|| format!("`state_bytes` is one of 16, 12, 10 and 8, not {bytes}"))
    }
}

/// What the forward pass keeps of a layer for the backward pass. All give the same gradient, bit for bit where the
/// device computes the same thing twice alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// As much in each layer as `memory` has room for.
    #[default]
    Auto,
    /// Everything that the backward pass reads, as plain automatic differentiation keeps it.
    Everything,
    /// What matrix products and attention made; norms, rotations and products of the MLP are computed again.
    Lean,
    /// The layer's input; all of it is computed again.
    Inputs,
}

/// What happens when a loss or a gradient is no finite number. The step is never applied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum NotFinite {
    /// The training ends with an error.
    #[default]
    Stop,
    /// The step is left out, which an event says; ten in a row end the training.
    Skip,
}

/// How the learning rate moves over the steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its shape after warm-up.
    #[serde(default)]
    pub kind: ScheduleKind,
    /// The fraction of steps in which it rises from 0, linearly.
    #[serde(default)]
    pub warmup: f64,
    /// The fraction of steps in which [`ScheduleKind::Wsd`] falls to 0; 0.2 when absent. Other kinds have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
}

impl Schedule {
    /// The fraction of steps in which a [`ScheduleKind::Wsd`] falls: the 10 to 20 % that arXiv 2405.18392 found enough.
    pub fn decays(&self) -> f64 {
        self.decay.unwrap_or(0.2)
    }
}

/// The shape of a schedule after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ScheduleKind {
    /// Half a cosine, down to 0.
    #[default]
    Cosine,
    /// A line, down to 0.
    Linear,
    /// No fall.
    Constant,
    /// Warm-up, stable, decay: no fall until the last `decay` of the steps, then a line, down to 0 (Hu et al.,
    /// arXiv 2404.06395; Hägele et al., arXiv 2405.18392).
    Wsd,
}

/// The type of weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum DType {
    /// 32 bits.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

/// Where to train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Device {
    /// The first CUDA device, or else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The first CUDA device; its absence is an error.
    Cuda,
}

/// How long to train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// Passes over the training packs.
    Epochs(u64),
    /// Optimizer steps.
    Steps(u64),
}

/// What a step holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// Examples, on average.
    Examples(u64),
    /// Packs.
    Packs(u64),
}
