//! The same model by automatic differentiation and public operators, for comparisons: `finch-train check` and the tests
//! hold the gradients that are written out against it.
//!
//! It shares weights, shapes, rotary angles and plain attention with [`Model`], and none of its gradients.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::attention::plain;
use super::layer::Mixer;
use super::linear::Linear;
use super::norm::Norm;
use super::parameters::{Parameter, Parameters};
use super::{Model, Segments};

/// A loss with the gradient of every weight that is trained.
pub(crate) struct Found {
    /// Weighted mean negative log likelihood over the trained rows, in nats.
    pub(crate) loss: f64,
    /// By the weight's address in memory, because the model knows its weights by place.
    gradients: BTreeMap<usize, Tensor>,
}

/// Leaves that stand for weights, each made once, so that a tied head adds to the embedding's gradient.
#[derive(Default)]
struct Leaves(BTreeMap<usize, Tensor>);

impl Leaves {
    fn leaf(&mut self, parameter: &Parameter) -> Tensor {
        let leaf = self.0.entry(parameter.value.data_ptr() as usize);
        let leaf = leaf.or_insert_with(|| {
            parameter.value.detach().copy().set_requires_grad(parameter.gradient.is_some())
        });
        leaf.shallow_clone()
    }

    fn linear(&mut self, linear: &Linear, x: &Tensor) -> Tensor {
        let weight = self.leaf(&linear.weight);
        let bias = linear.bias.as_ref().map(|bias| self.leaf(bias));
        let y = x.linear(&weight, bias.as_ref());
        match &linear.adapter {
            None => y,
            Some(adapter) => {
                let (a, b) = (self.leaf(&adapter.a), self.leaf(&adapter.b));
                let narrow = x.linear(&a, None::<Tensor>);
                y + narrow.linear(&b, None::<Tensor>) * adapter.scale
            }
        }
    }

    fn norm(&mut self, norm: &Norm, x: &Tensor) -> Tensor {
        let weight = self.leaf(&norm.weight);
        x.rms_norm(weight.size(), Some(&weight), norm.epsilon)
    }
}

/// The angles of a rotation for whole heads.
fn rotated(heads: &Tensor, segments: &Segments) -> Tensor {
    let (cos, sin) = segments.angles();
    let halves = heads.chunk(2, -1);
    let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
    heads * Tensor::cat(&[&cos, &cos], -1) + turned * Tensor::cat(&[&sin, &sin], -1)
}

fn states(model: &Model, segments: &Segments, leaves: &mut Leaves) -> Tensor {
    let (embedding, norm) = model.ends();
    let mut x = Tensor::embedding(&leaves.leaf(embedding), &segments.ids, -1, false, false);
    for layer in model.layers() {
        let h = leaves.norm(&layer.input_norm, &x);
        let Mixer::Attention(attention) = &layer.mixer;
        let mut heads =
            |linear: &Linear| leaves.linear(linear, &h).view([x.size()[0], -1, attention.head_dim]);
        let (mut q, mut k, v) = (heads(&attention.q), heads(&attention.k), heads(&attention.v));
        if let Some([q_norm, k_norm]) = &attention.head_norms {
            (q, k) = (leaves.norm(q_norm, &q), leaves.norm(k_norm, &k));
        }
        let parts = |x: &Tensor| x.split_with_sizes(&segments.lengths, 0);
        let (q, k, v) = (parts(&rotated(&q, segments)), parts(&rotated(&k, segments)), parts(&v));
        let mixed: Vec<Tensor> = q.iter().zip(k.iter().zip(&v)).map(|(q, (k, v))| plain(q, k, v)).collect();
        let mixed = Tensor::cat(&mixed, 0).reshape([x.size()[0], -1]);
        x = &x + leaves.linear(&attention.o, &mixed);
        let h = leaves.norm(&layer.post_norm, &x);
        let gated = leaves.linear(&layer.mlp.gate, &h).silu() * leaves.linear(&layer.mlp.up, &h);
        x = &x + leaves.linear(&layer.mlp.down, &gated);
    }
    leaves.norm(norm, &x)
}

/// The type in which sums of numbers of a type are formed.
pub(crate) fn wide(kind: Kind) -> Kind {
    if kind == Kind::Double { Kind::Double } else { Kind::Float }
}

/// The mean loss over the trained rows, and its gradient.
pub(crate) fn gradient(model: &Model, segments: &Segments, divisor: f64) -> Found {
    let mut leaves = Leaves::default();
    let loss = tch::with_grad(|| {
        let states = states(model, segments, &mut leaves).index_select(0, &segments.rows);
        let logits =
            states.linear(&leaves.leaf(&model.head.weight), None::<Tensor>).to_kind(wide(states.kind()));
        let by_row =
            logits.cross_entropy_loss::<Tensor>(&segments.targets, None, tch::Reduction::None, -100, 0.0);
        let loss = (by_row * &segments.weights).sum(wide(states.kind())) / divisor;
        loss.backward();
        loss.double_value(&[])
    });
    let gradients = leaves.0.into_iter().filter(|(_, leaf)| leaf.requires_grad());
    Found { loss, gradients: gradients.map(|(place, leaf)| (place, leaf.grad())).collect() }
}

impl Found {
    /// How far gradients in a flat buffer are from these, which are of `truth`: the largest distance of one weight's,
    /// relative to its norm; and that weight's name. `parameters` says how the buffer is laid out.
    pub(crate) fn distance(
        &self,
        truth: &Model,
        gradient: &Tensor,
        parameters: &Parameters,
    ) -> (f64, String) {
        let found = parameters.named(gradient);
        worst(self.named(truth).zip(found).map(|((name, right), (_, found))| (distance(&found, right), name)))
    }

    /// The same of gradients that automatic differentiation found for another model of the same shape.
    pub(crate) fn distance_of(&self, truth: &Model, other: &Self, model: &Model) -> f64 {
        let pairs = self.named(truth).zip(other.named(model));
        worst(pairs.map(|((name, right), (_, found))| (distance(found, right), name))).0
    }

    /// The gradients by name, in the order of the forward pass.
    pub(crate) fn named<'a>(&'a self, model: &'a Model) -> impl Iterator<Item = (String, &'a Tensor)> {
        let parameters = &model.parameters;
        parameters
            .named(&parameters.weights)
            .filter_map(|(name, weight)| Some((name, self.gradients.get(&(weight.data_ptr() as usize))?)))
    }
}

fn worst(distances: impl Iterator<Item = (f64, String)>) -> (f64, String) {
    distances.fold((0.0, String::new()), |worst, next| if next.0 > worst.0 { next } else { worst })
}

/// The norm of a difference, relative to the norm of what is right; infinite where it is no number.
pub(crate) fn distance(found: &Tensor, right: &Tensor) -> f64 {
    let wide = |x: &Tensor| x.to_device(tch::Device::Cpu).to_kind(Kind::Double);
    let (found, right) = (wide(found), wide(right));
    let off = ((found - &right).norm() / right.norm().clamp_min(1e-300)).double_value(&[]);
    if off.is_nan() { f64::INFINITY } else { off }
}
