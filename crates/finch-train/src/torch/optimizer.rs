//! AdamW with decoupled weight decay over the flat buffers, in f32 whatever is stored, and clipping by the global norm.
//!
//! An update takes the buffers a part at a time: what is stored narrower than f32 becomes f32, libtorch's fused operator
//! moves it, and it is stored again. How it is stored is `state_bytes` ([`finch_core::training::StateBytes`]).

use std::ops::Range;

use finch_core::Kind as DigestKind;
use finch_core::training::{Config, StateBytes};
use tch::{Device, Kind, Tensor, no_grad};

use super::dispatch::{Argument, call};
use super::parameters::Parameters;
use super::split;
use finch_train::budget::update_elements;
use finch_train::error::Result;

/// Elements that are looked at together for numbers that are none.
const LOOKED_AT: i64 = 1 << 24;

/// Elements whose squares are added up in f32 before f64 takes over.
const NORM_PART: i64 = 1 << 20;

/// The optimizer's state.
pub(crate) struct AdamW {
    /// Updates done.
    pub(crate) updates: u64,
    /// Mean of gradients, `[n]`.
    first: Tensor,
    /// Mean of squared gradients, `[n]`.
    second: Tensor,
    /// What the weights lack of f32.
    rest: Rest,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    weight_decay: f64,
    seed: u64,
}

/// What is stored beside the weights so that small updates are not lost.
enum Rest {
    /// Nothing: the weights are f32.
    None,
    /// The weights in f32.
    Master(Tensor),
    /// The low halves of the weights in f32; see [`split`].
    Low(Tensor),
    /// Nothing: rounding is stochastic.
    Chance,
}

impl AdamW {
    /// An optimizer before its first update.
    pub(crate) fn new(parameters: &Parameters, config: &Config) -> Self {
        let weights = &parameters.weights;
        let zeros = |kind: Kind| Tensor::zeros(weights.size(), (kind, weights.device()));
        let narrow = weights.kind() != Kind::Float;
        let (first, second) = match config.state_bytes {
            StateBytes::Sixteen => (Kind::Float, Kind::Float),
            StateBytes::Twelve => (Kind::BFloat16, Kind::Float),
            StateBytes::Ten | StateBytes::Eight => (Kind::BFloat16, Kind::BFloat16),
        };
        let rest = match config.state_bytes {
            StateBytes::Sixteen if !narrow => Rest::None,
            StateBytes::Sixteen => Rest::Master(weights.to_kind(Kind::Float)),
            StateBytes::Twelve | StateBytes::Ten => Rest::Low(zeros(Kind::Int16)),
            StateBytes::Eight => Rest::Chance,
        };
        Self {
            updates: 0,
            first: zeros(first),
            second: zeros(second),
            rest,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon,
            weight_decay: config.weight_decay,
            seed: config.seed,
        }
    }

    /// One update from the gradients, scaled by `scale`, which are zero afterwards.
    ///
    /// Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, with the bias corrections of Adam (arXiv 1412.6980), as
    /// PyTorch's fused `AdamW` has it.
    pub(crate) fn update(&mut self, parameters: &Parameters, lr: f64, scale: f64) -> Result<()> {
        self.updates += 1;
        if matches!(self.rest, Rest::Chance) {
            // What chance decides is a function of the seed and the update, so a resumed training decides alike.
            let digest =
                DigestKind::Choice.fields().text("rounding").int(self.seed).int(self.updates).finish();
            let mut first = [0; 8];
            first.copy_from_slice(&digest.as_bytes()[..8]);
            tch::manual_seed(i64::from_le_bytes(first));
        }
        let (total, decayed) = (parameters.weights.size()[0], parameters.decayed);
        let part = update_elements(parameters.weights.device().is_cuda()) as i64;
        for (range, decay) in [(0..decayed, self.weight_decay), (decayed..total, 0.0)] {
            let mut start = range.start;
            while start < range.end {
                // With f32 alone nothing is converted, and nothing need be cut.
                let whole = matches!(self.rest, Rest::None);
                let end = if whole { range.end } else { range.end.min(start + part) };
                no_grad(|| self.update_part(parameters, start..end, lr, scale, decay))?;
                start = end;
            }
        }
        no_grad(|| parameters.zero_gradients());
        Ok(())
    }

    fn update_part(
        &self,
        parameters: &Parameters,
        range: Range<i64>,
        lr: f64,
        scale: f64,
        decay: f64,
    ) -> Result<()> {
        let part = |x: &Tensor| x.narrow(0, range.start, range.end - range.start);
        // The same tensor where it is f32 already, so that it is updated in its place.
        let wide = |x: &Tensor| part(x).to_kind(Kind::Float);
        let gradient = wide(&parameters.gradients);
        let weights = part(&parameters.weights);
        let target = match &self.rest {
            Rest::None | Rest::Chance => wide(&parameters.weights),
            Rest::Master(master) => part(master),
            Rest::Low(low) => split::joined(&weights, &part(low)),
        };
        let (first, second) = (wide(&self.first), wide(&self.second));
        self.fused([&target, &gradient, &first, &second], lr, scale, decay)?;
        let store = |flat: &Tensor, moved: &Tensor| {
            if flat.kind() != Kind::Float {
                part(flat).copy_(moved);
            }
        };
        store(&self.first, &first);
        store(&self.second, &second);
        match &self.rest {
            Rest::None => {}
            Rest::Master(_) => weights.shallow_clone().copy_(&target),
            Rest::Low(low) => split::store(&target, &weights, &part(low)),
            Rest::Chance => split::store_by_chance(&target, &weights),
        }
        Ok(())
    }

    /// Moves weights and moments in f32. The operator divides the gradient as it reads it.
    fn fused(
        &self,
        [weight, gradient, first, second]: [&Tensor; 4],
        lr: f64,
        scale: f64,
        decay: f64,
    ) -> Result<()> {
        let scalar = |value: f64| Tensor::full([], value, (Kind::Float, weight.device()));
        let (step, divisor) = (scalar(self.updates as f64), (scale != 1.0).then(|| scalar(scale.recip())));
        let arguments = [
            Argument::Tensors(&[weight]),
            Argument::Tensors(&[gradient]),
            Argument::Tensors(&[first]),
            Argument::Tensors(&[second]),
            Argument::Tensors(&[]),
            Argument::Tensors(&[&step]),
            Argument::Float(lr),
            Argument::Float(self.beta1),
            Argument::Float(self.beta2),
            Argument::Float(decay),
            Argument::Float(self.epsilon),
            Argument::Bool(false),
            Argument::Bool(false),
            Argument::MaybeTensor(divisor.as_ref()),
            Argument::MaybeTensor(None),
        ];
        call("_fused_adamw_", &arguments, 0).map(drop)
    }

    /// Everything that a resumed training needs besides the weights, by name; these are the tensors themselves, to be
    /// read or written into.
    pub(crate) fn state(&self, parameters: &Parameters) -> Vec<(String, Tensor)> {
        let rest = match &self.rest {
            Rest::Master(master) => Some(("master", master)),
            Rest::Low(low) => Some(("low", low)),
            Rest::None | Rest::Chance => None,
        };
        [("first", &self.first), ("second", &self.second)]
            .into_iter()
            .chain(rest)
            .flat_map(|(part, flat)| {
                parameters
                    .named(flat)
                    .map(move |(name, view)| (format!("{part}.{name}"), view))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

/// The global norm of the gradient, over all weights together.
pub(crate) fn gradient_norm(parameters: &Parameters) -> f64 {
    let gradients = &parameters.gradients;
    // A card adds up in a tree, whose rounding does not grow with the length; there fewer launches count.
    let part = if gradients.device() == Device::Cpu { NORM_PART } else { NORM_PART << 8 };
    no_grad(|| {
        let norms: Vec<Tensor> =
            gradients.split(part, 0).iter().map(|part| part.norm_scalaropt_dtype(2.0, Kind::Float)).collect();
        if norms.is_empty() {
            return 0.0;
        }
        Tensor::stack(&norms, 0).to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[])
    })
}

/// The name of the last weight, in the order of the forward pass, whose gradient is not finite: the backward pass met it
/// first.
pub(crate) fn broken_gradient(parameters: &Parameters) -> Option<String> {
    broken(parameters, &parameters.gradients).pop()
}

/// The name of the first weight, in the order of the forward pass, that holds a number that is none.
pub(crate) fn broken_weight(parameters: &Parameters) -> Option<String> {
    broken(parameters, &parameters.weights).into_iter().next()
}

fn broken(parameters: &Parameters, flat: &Tensor) -> Vec<String> {
    // A part at a time: the question takes several bytes an element.
    let finite = |x: &Tensor| {
        no_grad(|| {
            x.reshape([-1]).split(LOOKED_AT, 0).iter().all(|part| part.isfinite().all().int64_value(&[]) != 0)
        })
    };
    // One look at everything answers most calls.
    if finite(flat) {
        return Vec::new();
    }
    parameters.named(flat).filter(|(_, view)| !finite(view)).map(|(name, _)| name).collect()
}

/// What gradients are multiplied with so that their global norm is at most `clip`; 0 clips nothing.
///
/// Pascanu et al., arXiv 1211.5063; the added 1e-6 is PyTorch's.
pub(crate) fn clip_scale(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 { (clip / (norm + 1e-6)).min(1.0) } else { 1.0 }
}
