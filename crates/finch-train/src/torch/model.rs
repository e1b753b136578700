//! A decoder over packed documents, and its gradient.
//!
//! T is the number of tokens of all documents together, R that of rows whose next token is trained, D the width of the
//! residual stream. Formulas follow `transformers`' Qwen3, Qwen2 and Llama; parity with them is tested to its rounding.
//! Nothing is recorded by automatic differentiation: [`Model::states`] keeps what [`Model::backward`] reads.

use std::collections::BTreeMap;

use tch::{Device, Kind, Tensor};

use super::layer::{self, Layer, Mixer};
use super::linear::{Adapter, Linear};
use super::loss::Head;
use super::mlp::Mlp;
use super::norm::Norm;
use super::parameters::{Parameter, Parameters};
use super::self_attention::SelfAttention;
use super::weights::{Weights, adapter_names};
use super::{Level, Segments};
use finch_train::architecture::{self, Architecture, EMBEDDING, FINAL_NORM, HEAD};
use finch_train::error::Result;
use finch_train::sequence::Sequence;

/// A model's weights in their places.
pub(crate) struct Model {
    /// Its shape.
    pub(crate) shape: Architecture,
    /// The type of weights and activations.
    pub(crate) kind: Kind,
    /// Where it lies.
    pub(crate) device: Device,
    /// What is trained.
    pub(crate) parameters: Parameters,
    /// The matrix whose product with a state is its logits.
    pub(crate) head: Head,
    /// `alpha / rank` of adapters.
    pub(crate) scale: f64,
    frozen: BTreeMap<String, Tensor>,
    embedding: Parameter,
    layers: Vec<Layer>,
    norm: Norm,
}

/// What the backward pass needs of a forward pass.
pub(crate) struct Passed {
    kept: Vec<layer::Kept>,
    /// The last layer's output, `[R, D]`, and r of the norm before the head.
    last: Tensor,
    r: Tensor,
}

/// Places at which a forward pass can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Embedding,
    Layer(usize),
    Norm,
}

impl Model {
    /// A model of weights that have its shapes.
    pub(crate) fn new(weights: Weights) -> Result<Self> {
        let Weights { shape, kind, device, trained, frozen, scale } = weights;
        let parts = Parts { parameters: &trained, frozen: &frozen, scale };
        let epsilon = shape.rms_norm_eps;
        let norm = |name: &str| -> Result<Norm> { Ok(Norm { weight: parts.parameter(name)?, epsilon }) };
        let layer = |(index, mixer): (usize, &architecture::Mixer)| -> Result<Layer> {
            let name = |part: &str| format!("model.layers.{index}.{part}");
            let linear = |part: &str, bias: bool| parts.linear(&name(part), bias);
            let architecture::Mixer::Attention(attention) = mixer;
            let head_norms = match attention.head_norms {
                false => None,
                true => {
                    Some([norm(&name("self_attn.q_norm.weight"))?, norm(&name("self_attn.k_norm.weight"))?])
                }
            };
            Ok(Layer {
                input_norm: norm(&name("input_layernorm.weight"))?,
                mixer: Mixer::Attention(SelfAttention {
                    q: linear("self_attn.q_proj", attention.input_bias)?,
                    k: linear("self_attn.k_proj", attention.input_bias)?,
                    v: linear("self_attn.v_proj", attention.input_bias)?,
                    o: linear("self_attn.o_proj", attention.output_bias)?,
                    head_norms,
                    head_dim: shape.head_dim,
                    path: None,
                }),
                post_norm: norm(&name("post_attention_layernorm.weight"))?,
                mlp: Mlp {
                    gate: linear("mlp.gate_proj", shape.mlp_bias)?,
                    up: linear("mlp.up_proj", shape.mlp_bias)?,
                    down: linear("mlp.down_proj", shape.mlp_bias)?,
                },
            })
        };
        let layers = shape.mixers.iter().enumerate().map(layer).collect::<Result<_>>()?;
        let head = if shape.tie_word_embeddings { EMBEDDING } else { HEAD };
        let (embedding, norm) = (parts.parameter(EMBEDDING)?, norm(FINAL_NORM)?);
        let head = Head::new(parts.parameter(head)?);
        Ok(Self { shape, kind, device, parameters: trained, head, scale, frozen, embedding, layers, norm })
    }

    /// The states before the head of the rows whose next token is trained, `[R, D]`; with levels, one a layer, also what
    /// the backward pass needs.
    pub(crate) fn states(
        &self,
        segments: &Segments,
        levels: Option<&[Level]>,
    ) -> Result<(Tensor, Option<Passed>)> {
        self.watched(segments, levels, |_, _| {})
    }

    /// The same, showing the residual stream on its way.
    pub(crate) fn watched(
        &self,
        segments: &Segments,
        levels: Option<&[Level]>,
        mut watch: impl FnMut(Place, &Tensor),
    ) -> Result<(Tensor, Option<Passed>)> {
        let mut x = Tensor::embedding(&self.embedding.value, &segments.ids, -1, false, false);
        watch(Place::Embedding, &x);
        let mut kept = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let level = levels.map(|levels| levels.get(index).copied().unwrap_or(Level::Inputs));
            let (y, of_layer) = layer.forward(&x, segments, self.only(index, segments), level)?;
            kept.extend(of_layer);
            x = y;
            watch(Place::Layer(index), &x);
        }
        let (states, r) = self.norm.forward(&x);
        watch(Place::Norm, &states);
        Ok((states, levels.map(|_| Passed { kept, last: x, r })))
    }

    /// The rows that go on after a layer mixed tokens: behind the last one, nothing reads those whose next token is not
    /// trained.
    fn only<'a>(&self, index: usize, segments: &'a Segments) -> Option<&'a Tensor> {
        (index + 1 == self.layers.len()).then_some(&segments.rows)
    }

    /// Adds up the gradients of all weights, given that of the states.
    pub(crate) fn backward(&self, passed: Passed, dstates: Tensor, segments: &Segments) -> Result<()> {
        let Passed { mut kept, last, r } = passed;
        let mut dx = self.norm.backward(&last, &r, &dstates)?;
        drop((last, r, dstates));
        for (index, layer) in self.layers.iter().enumerate().rev() {
            let Some(of_layer) = kept.pop() else { return Ok(()) };
            dx = layer.backward(of_layer, dx, segments, self.only(index, segments))?;
        }
        if let Some(gradient) = &self.embedding.gradient {
            segments.add_to_embedding(gradient, &dx);
        }
        Ok(())
    }

    /// Computes attention in another way than the fastest, for comparisons.
    #[cfg(test)]
    pub(crate) fn attend_by(&mut self, path: super::attention::Path) {
        for layer in &mut self.layers {
            let Mixer::Attention(attention) = &mut layer.mixer;
            attention.path = Some(path);
        }
    }

    /// A weight of the model itself, trained or frozen, by its name in checkpoints.
    pub(crate) fn weight(&self, name: &str) -> Result<Tensor> {
        match self.frozen.get(name) {
            Some(value) => Ok(value.shallow_clone()),
            None => Ok(self.parameters.parameter(name)?.value),
        }
    }

    /// A sequence where the model is, as it reads it.
    pub(crate) fn segments(&self, sequence: &Sequence) -> Segments {
        Segments::new(sequence, &self.shape, self.device, self.kind)
    }

    /// The layers, to be read by whoever writes them.
    pub(crate) fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The embedding and the norm before the head.
    pub(crate) fn ends(&self) -> (&Parameter, &Norm) {
        (&self.embedding, &self.norm)
    }
}

/// Where a model's weights are found by name.
struct Parts<'a> {
    parameters: &'a Parameters,
    frozen: &'a BTreeMap<String, Tensor>,
    /// `alpha / rank` of adapters.
    scale: f64,
}

impl Parts<'_> {
    fn parameter(&self, name: &str) -> Result<Parameter> {
        match self.frozen.get(name) {
            Some(value) => Ok(Parameter { value: value.shallow_clone(), gradient: None }),
            None => self.parameters.parameter(name),
        }
    }

    fn linear(&self, name: &str, bias: bool) -> Result<Linear> {
        let [a, b] = adapter_names(name);
        let adapter = match self.parameters.parameter(&a) {
            Ok(a) => Some(Adapter { a, b: self.parameters.parameter(&b)?, scale: self.scale }),
            Err(_) => None,
        };
        Ok(Linear {
            weight: self.parameter(&format!("{name}.weight"))?,
            bias: bias.then(|| self.parameter(&format!("{name}.bias"))).transpose()?,
            adapter,
        })
    }
}
