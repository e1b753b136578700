//! The Qwen3 decoder, over packed documents.
//!
//! T is the number of tokens of all documents together, D the width of the residual stream, H and K the numbers of
//! query and key heads, d a head's width. Formulas follow `transformers`' `Qwen3ForCausalLM`; parity with it is
//! tested to its rounding.

use std::collections::BTreeMap;
use std::path::Path;

use finch_core::training::{Base, DType};
use finch_core::{Code, Kind as DigestKind};
use tch::{Device, Kind, Tensor};

use super::segments::Segments;
use super::{attend, tensors};
use finch_train::architecture::{Architecture, EMBEDDING, FINAL_NORM, HEAD, TensorSpec};
use finch_train::error::{Error, Result};

/// A model's weights, named and in their places.
pub(crate) struct Model {
    /// Its shape.
    pub(crate) shape: Architecture,
    /// The type of weights and activations.
    pub(crate) kind: Kind,
    /// Where it lies.
    pub(crate) device: Device,
    /// Every weight under its Hugging Face name, in the order of the forward pass; leaves of autograd.
    pub(crate) parameters: Vec<(String, Tensor)>,
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    head: Tensor,
}

/// A layer's weights.
struct Layer {
    input_norm: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    q_norm: Tensor,
    k_norm: Tensor,
    o: Tensor,
    post_norm: Tensor,
    gate: Tensor,
    up: Tensor,
    down: Tensor,
}

/// libtorch's name of a type.
pub(crate) fn kind(dtype: DType) -> Kind {
    match dtype {
        DType::F32 => Kind::Float,
        DType::Bf16 => Kind::BFloat16,
    }
}

impl Model {
    /// The model that a training starts from.
    pub(crate) fn begin(
        base: &Base,
        shape: Architecture,
        dtype: DType,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        match base {
            Base::Checkpoint(folder) => Self::load(folder, shape, dtype, device),
            Base::Config { .. } => {
                let weights = shape
                    .tensors()
                    .into_iter()
                    .map(|spec| {
                        let weight = drawn(&spec, &shape, seed);
                        (spec.name, weight)
                    })
                    .collect();
                Self::new(shape, weights, dtype, device)
            }
        }
    }

    /// A checkpoint directory's weights.
    pub(crate) fn load(folder: &Path, shape: Architecture, dtype: DType, device: Device) -> Result<Self> {
        let mut weights = tensors::read_checkpoint(folder)?;
        let error = |reason: String| Error::Model {
            path: folder.to_path_buf(),
            reason,
            code: Code::BadCheckpoint,
            hint: Some("`config.json` and the safetensors must be of the same model".to_owned()),
        };
        let wanted = shape.tensors();
        let missing: Vec<&str> = wanted
            .iter()
            .map(|spec| spec.name.as_str())
            .filter(|name| !weights.contains_key(*name))
            .collect();
        if let Some(first) = missing.first() {
            return Err(error(match missing.len() {
                1 => format!("the checkpoint lacks the tensor `{first}`"),
                n => format!("the checkpoint lacks `{first}` and {} other tensors", n - 1),
            }));
        }
        for spec in &wanted {
            let found = weights[&spec.name].size();
            if found != spec.shape {
                let reason =
                    format!("`{}` has the shape {found:?}, and its config says {:?}", spec.name, spec.shape);
                return Err(error(reason));
            }
        }
        // Published tied checkpoints may hold the head all the same; it is the embedding.
        if shape.tie_word_embeddings {
            weights.remove(HEAD);
        }
        if let Some(unknown) = weights.keys().find(|name| !wanted.iter().any(|spec| spec.name == **name)) {
            return Err(error(format!(
                "the checkpoint holds `{unknown}`, which its config does not speak of"
            )));
        }
        Self::new(shape, weights, dtype, device)
    }

    /// A model of weights that have its shapes.
    fn new(
        shape: Architecture,
        mut weights: BTreeMap<String, Tensor>,
        dtype: DType,
        device: Device,
    ) -> Result<Self> {
        let kind = kind(dtype);
        let mut parameters = Vec::new();
        for TensorSpec { name, .. } in shape.tensors() {
            let weight = weights.remove(&name).ok_or_else(|| Error::Torch(format!("no weight `{name}`")))?;
            // A copy, so that no weight is an alias of what it was made from.
            let weight = weight.to_device(device).to_kind(kind).copy().detach().set_requires_grad(true);
            parameters.push((name, weight));
        }
        let find = |name: &str| {
            let found = parameters.iter().find(|(known, _)| known == name);
            found
                .map(|(_, weight)| weight.shallow_clone())
                .ok_or_else(|| Error::Torch(format!("no weight `{name}`")))
        };
        let layer = |index: i64| -> Result<Layer> {
            let part = |part: &str| find(&format!("model.layers.{index}.{part}.weight"));
            Ok(Layer {
                input_norm: part("input_layernorm")?,
                q: part("self_attn.q_proj")?,
                k: part("self_attn.k_proj")?,
                v: part("self_attn.v_proj")?,
                q_norm: part("self_attn.q_norm")?,
                k_norm: part("self_attn.k_norm")?,
                o: part("self_attn.o_proj")?,
                post_norm: part("post_attention_layernorm")?,
                gate: part("mlp.gate_proj")?,
                up: part("mlp.up_proj")?,
                down: part("mlp.down_proj")?,
            })
        };
        Ok(Self {
            embedding: find(EMBEDDING)?,
            layers: (0..shape.num_hidden_layers).map(layer).collect::<Result<_>>()?,
            norm: find(FINAL_NORM)?,
            head: find(if shape.tie_word_embeddings { EMBEDDING } else { HEAD })?,
            shape,
            kind,
            device,
            parameters,
        })
    }

    /// The name of the first weight, in the order of the forward pass, that holds a number that is none.
    pub(crate) fn first_broken(&self) -> Option<&str> {
        let broken = |weight: &Tensor| tch::no_grad(|| weight.isfinite().all().int64_value(&[]) == 0);
        self.parameters.iter().find(|(_, weight)| broken(weight)).map(|(name, _)| name.as_str())
    }

    /// The matrix `[vocabulary, D]` whose product with a hidden state is its logits.
    pub(crate) fn head(&self) -> &Tensor {
        &self.head
    }

    /// The states before the head, `[T, D]`.
    pub(crate) fn hidden(&self, segments: &Segments) -> Tensor {
        self.hidden_watched(segments, |_, _| {})
    }

    /// The same, showing the residual stream on its way: after the embedding (0), after each layer (from 1), and
    /// after the last norm.
    pub(crate) fn hidden_watched(
        &self,
        segments: &Segments,
        mut watch: impl FnMut(usize, &Tensor),
    ) -> Tensor {
        let mut x = Tensor::embedding(&self.embedding, &segments.ids, -1, false, false);
        watch(0, &x);
        for (index, layer) in self.layers.iter().enumerate() {
            x = self.layer(layer, &x, segments);
            watch(index + 1, &x);
        }
        let x = self.normed(&x, &self.norm);
        watch(self.layers.len() + 1, &x);
        x
    }

    /// Logits of every row, `[T, vocabulary]`. Training never makes them all at once.
    #[cfg(test)]
    pub(crate) fn logits(&self, segments: &Segments) -> Tensor {
        self.hidden(segments).linear(&self.head, None::<Tensor>)
    }

    fn layer(&self, layer: &Layer, x: &Tensor, segments: &Segments) -> Tensor {
        let linear = |x: &Tensor, weight: &Tensor| x.linear(weight, None::<Tensor>);
        let h = self.normed(x, &layer.input_norm);
        // Each head of q and k is normed by itself before it is rotated.
        let heads = |weight: &Tensor, count: i64| linear(&h, weight).view([-1, count, self.shape.head_dim]);
        let q = self.normed(&heads(&layer.q, self.shape.num_attention_heads), &layer.q_norm);
        let k = self.normed(&heads(&layer.k, self.shape.num_key_value_heads), &layer.k_norm);
        let v = heads(&layer.v, self.shape.num_key_value_heads);
        let mixed = attend(&segments.rotate(&q), &segments.rotate(&k), &v, segments);
        let x = x + linear(&mixed, &layer.o);
        let h = self.normed(&x, &layer.post_norm);
        let gated = linear(&h, &layer.gate).silu() * linear(&h, &layer.up);
        x + linear(&gated, &layer.down)
    }

    /// RMS norm over the last dimension.
    fn normed(&self, x: &Tensor, weight: &Tensor) -> Tensor {
        x.rms_norm(weight.size(), Some(weight), self.shape.rms_norm_eps)
    }
}

/// A random weight: normal for matrices, one for norms. Each tensor has its own seed, from its name, so that a
/// weight does not depend on the order in which they are drawn. Drawn on the CPU, the same for every device.
fn drawn(spec: &TensorSpec, shape: &Architecture, seed: u64) -> Tensor {
    let options = (Kind::Float, Device::Cpu);
    if spec.shape.len() == 1 {
        return Tensor::ones(spec.shape.as_slice(), options);
    }
    let digest = DigestKind::Choice.fields().text("random weight").int(seed).text(&spec.name).finish();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    tch::manual_seed(i64::from_le_bytes(first));
    Tensor::randn(spec.shape.as_slice(), options) * shape.initializer_range
}
