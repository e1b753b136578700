//! AdamW with decoupled weight decay, in f32 whatever the weights' type, and clipping by the global norm.

use finch_core::training::Config;
use tch::{Kind, Tensor, no_grad};

use super::Model;

/// The optimizer's state.
pub(crate) struct AdamW {
    /// Updates done.
    pub(crate) updates: u64,
    slots: Vec<Slot>,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
}

/// What is kept for one weight.
struct Slot {
    name: String,
    /// The weight that the model computes with.
    weight: Tensor,
    /// The weight in f32, where the model's is coarser.
    master: Option<Tensor>,
    /// Mean of gradients.
    first: Tensor,
    /// Mean of squared gradients.
    second: Tensor,
    /// Whether it decays: matrices do, norms do not.
    decays: bool,
}

impl AdamW {
    /// An optimizer for a model, before its first update.
    pub(crate) fn new(model: &Model, config: &Config) -> Self {
        let slots = model
            .parameters
            .iter()
            .map(|(name, weight)| {
                let zeros = || weight.detach().zeros_like().to_kind(Kind::Float);
                let master = (weight.kind() != Kind::Float).then(|| weight.detach().to_kind(Kind::Float));
                Slot {
                    name: name.clone(),
                    weight: weight.shallow_clone(),
                    master,
                    first: zeros(),
                    second: zeros(),
                    decays: weight.dim() > 1,
                }
            })
            .collect();
        Self {
            updates: 0,
            slots,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
        }
    }

    /// The global norm of the gradient, over all weights together.
    pub(crate) fn gradient_norm(&self) -> f64 {
        no_grad(|| {
            let squares: f64 = self
                .slots
                .iter()
                .map(|slot| slot.weight.grad())
                .filter(Tensor::defined)
                .map(|gradient| gradient.to_kind(Kind::Float).norm().double_value(&[]).powi(2))
                .sum();
            squares.sqrt()
        })
    }

    /// The name of the last weight, in the order of the forward pass, whose gradient is not finite: the backward
    /// pass met it first.
    pub(crate) fn first_broken(&self) -> Option<&str> {
        let broken = |slot: &&Slot| {
            let gradient = slot.weight.grad();
            gradient.defined() && !gradient.norm().double_value(&[]).is_finite()
        };
        self.slots.iter().rev().find(broken).map(|slot| slot.name.as_str())
    }

    /// One update with the gradients as they are times `scale`; then they are zero.
    ///
    /// Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, with the bias corrections of Adam (arXiv 1412.6980), in
    /// the order of operations of PyTorch's `AdamW`.
    pub(crate) fn update(&mut self, lr: f64, scale: f64) {
        self.updates += 1;
        let exponent = self.updates as f64;
        let (correction1, correction2) = (1.0 - self.beta1.powf(exponent), 1.0 - self.beta2.powf(exponent));
        no_grad(|| {
            for slot in &mut self.slots {
                let gradient = slot.weight.grad();
                if !gradient.defined() {
                    continue;
                }
                let mut gradient = gradient.to_kind(Kind::Float).copy();
                if scale != 1.0 {
                    let _ = gradient.g_mul_scalar_(scale);
                }
                let _ = slot.first.lerp_(&gradient, 1.0 - self.beta1);
                let _ = slot.second.g_mul_scalar_(self.beta2);
                let _ = slot.second.g_add_(&(&gradient * &gradient * (1.0 - self.beta2)));
                let denominator = slot.second.sqrt() / correction2.sqrt() + self.epsilon;
                let change = &slot.first / denominator * (lr / correction1);
                let mut target =
                    slot.master.as_ref().map_or_else(|| slot.weight.detach(), Tensor::shallow_clone);
                if slot.decays && self.weight_decay > 0.0 {
                    let _ = target.g_mul_scalar_(1.0 - lr * self.weight_decay);
                }
                let _ = target.g_sub_(&change);
                if slot.master.is_some() {
                    slot.weight.detach().copy_(&target);
                }
                slot.weight.zero_grad();
            }
        });
    }

    /// Everything that a resumed training needs, by name.
    pub(crate) fn state(&self) -> Vec<(String, Tensor)> {
        self.slots
            .iter()
            .flat_map(|slot| {
                let entry =
                    |part: &str, tensor: &Tensor| (format!("{part}.{}", slot.name), tensor.shallow_clone());
                [
                    Some(entry("first", &slot.first)),
                    Some(entry("second", &slot.second)),
                    slot.master.as_ref().map(|master| entry("master", master)),
                ]
            })
            .flatten()
            .collect()
    }

    /// The tensors that [`AdamW::state`] names, to be written into.
    pub(crate) fn restore(&mut self, updates: u64) -> Vec<(String, Tensor)> {
        self.updates = updates;
        self.state()
    }
}

/// What gradients are multiplied with so that their global norm is at most `clip`; 0 clips nothing.
///
/// Pascanu et al., arXiv 1211.5063; the added 1e-6 is PyTorch's.
pub(crate) fn clip_scale(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 }
}
