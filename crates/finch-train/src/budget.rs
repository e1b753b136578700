//! What a training needs, before anything is allocated: parameters, memory, tokens, steps.
//!
//! Weights, gradients and optimizer state are exact. Activations are counted from the operators that autograd
//! saves for (the list is in [`Budget::new`]); allocator slack and the libraries' own memory are not in it.

use finch_core::training::{Config, DType, Totals};

use crate::architecture::{Architecture, TensorSpec};

/// Rows of logits that are computed together.
pub const HEAD_ROWS: i64 = 1024;

/// What a training needs.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Budget {
    /// Weights in the model.
    pub parameters: u64,
    /// Bytes of weights, in the type that they train in.
    pub weight_bytes: u64,
    /// Bytes of gradients.
    pub gradient_bytes: u64,
    /// Bytes of AdamW's moments in f32, and of f32 weights beside bf16 ones.
    pub optimizer_bytes: u64,
    /// Tokens in the largest forward pass: `micro_packs` times the longest pack.
    pub tokens_in_flight: u64,
    /// Bytes that autograd keeps for the largest forward pass.
    pub activation_bytes: u64,
    /// Bytes of one slice of logits and what is computed from it, the head's gradient included.
    pub logit_bytes: u64,
    /// All of it.
    pub total_bytes: u64,
    /// Optimizer steps.
    pub steps: u64,
    /// What there is to train on.
    pub train: Totals,
    /// What is held out and will be evaluated.
    pub held_out: Totals,
}

impl Budget {
    /// The budget of a training on data with a longest pack of `longest` tokens.
    pub fn new(
        config: &Config,
        shape: &Architecture,
        steps: u64,
        train: Totals,
        held_out: Totals,
        longest: u64,
    ) -> Self {
        let parameters = shape.parameters();
        let width: u64 = match config.dtype {
            DType::F32 => 4,
            DType::Bf16 => 2,
        };
        let master: u64 = if config.dtype == DType::Bf16 { 4 } else { 0 };
        let tokens = longest.saturating_mul(config.micro_packs);
        let size = |n: i64| n as u64;
        let (hidden, inner) = (size(shape.hidden_size), size(shape.intermediate_size));
        let heads = size(shape.num_attention_heads * shape.head_dim);
        let keys = size(shape.num_key_value_heads * shape.head_dim);
        // Kept for backward, per token and layer, in elements: the residual and its norm, twice (4 hidden);
        // q, k, v as projected, q and k after their norms, and after rotation; attention's output, joined from
        // documents; gate, silu(gate), up and their product.
        let layer = 4 * hidden + 3 * (heads + keys) + keys + 2 * heads + 4 * inner;
        let activations = tokens.saturating_mul((layer * size(shape.num_hidden_layers) + 2 * hidden) * width);
        // Logits of a slice in f32, their log softmax, and the gradient of them; the head's gradient as one slice's
        // product, as the sum over slices in f32, and in the weights' type.
        let logits = size(shape.vocab_size) * (size(HEAD_ROWS) * 4 * 3 + hidden * (4 + 4 + width));
        // The optimizer works on one tensor at a time, with five of its size in f32 at most.
        let update = 5 * 4 * shape.tensors().iter().map(TensorSpec::numel).max().unwrap_or(0);
        let (weights, moments) = (parameters * width, parameters * (8 + master));
        Self {
            parameters,
            weight_bytes: weights,
            gradient_bytes: weights,
            optimizer_bytes: moments,
            tokens_in_flight: tokens,
            activation_bytes: activations,
            logit_bytes: logits,
            // An update comes when the activations are gone.
            total_bytes: (2 * weights + moments)
                .saturating_add(activations.saturating_add(logits).max(update)),
            steps,
            train,
            held_out,
        }
    }
}
