//! What a training needs of memory, before anything is allocated; and how much of which layer is kept.
//!
//! Weights, gradients and optimizer state are exact. Activations are counted tensor by tensor, as `torch/layer.rs`,
//! `torch/self_attention.rs`, `torch/mlp.rs` and `torch/loss.rs` hold them, at the four moments when most is held: in a
//! layer's forward pass, at the head, in a layer's backward pass, and in the update. `benches/plan.py` compares the sum
//! with what is measured. What libraries hold for themselves is [`LIBRARIES`] on a card, and not counted on the CPU.

use finch_core::training::{Activations, Config, DType, Kept, StateBytes, Totals};

use crate::architecture::{Architecture, Mixer};
use crate::error::Error;
use crate::packs::Packs;

/// Rows of logits that are computed together.
pub const HEAD_ROWS: i64 = 1024;

/// Elements that the optimizer converts together: on a card few launches, on the CPU temporaries that stay in the cache.
pub const fn update_elements(card: bool) -> u64 {
    if card { 1 << 24 } else { 1 << 20 }
}

/// What CUDA's context, cuBLAS's workspace and the allocator's slack take on a card: an estimate, not measured yet.
pub const LIBRARIES: u64 = 3 << 30;

/// What is kept of a layer for its backward pass, from the most to the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything that the backward pass reads.
    Everything,
    /// What matrix products and attention made.
    Lean,
    /// The layer's input.
    Inputs,
}

/// The largest forward and backward pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flight {
    /// Tokens that are in it.
    pub tokens: u64,
    /// Of them, rows whose next token is trained.
    pub rows: u64,
}

/// What a training needs.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Budget {
    /// Weights in the model.
    pub parameters: u64,
    /// Weights that are trained.
    pub trainable: u64,
    /// Bytes of weights, in the type that they train in, adapters included.
    pub weight_bytes: u64,
    /// Bytes of gradients.
    pub gradient_bytes: u64,
    /// Bytes of AdamW's state.
    pub optimizer_bytes: u64,
    /// Tokens in the largest forward pass: `micro_packs` times the longest pack.
    pub tokens_in_flight: u64,
    /// Layers by what is kept of them.
    pub kept: Kept,
    /// Bytes of activations at the moment when most is held.
    pub activation_bytes: u64,
    /// Bytes of one slice of logits and what is computed from it, the head's gradient included.
    pub logit_bytes: u64,
    /// The most that is held at any moment.
    pub total_bytes: u64,
    /// What there is, if it was said.
    pub memory_bytes: Option<u64>,
    /// Whether it is enough, if it was said.
    pub fits: Option<bool>,
    /// What each layer keeps.
    #[serde(skip)]
    pub levels: Vec<Level>,
    /// Whether weights, gradients and state could take less than they do.
    #[serde(skip)]
    pub narrower: bool,
}

/// A plan with what there is to do.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Plan {
    /// Memory.
    #[serde(flatten)]
    pub budget: Budget,
    /// Optimizer steps.
    pub steps: u64,
    /// What there is to train on.
    pub train: Totals,
    /// What is held out and will be evaluated.
    pub held_out: Totals,
}

impl Flight {
    /// The largest pass of a training over packs: `micro_packs` of them, but no more than a step has.
    pub fn of(config: &Config, packs: &Packs) -> Self {
        let step = config.batch_packs.or(config.batch_examples).unwrap_or(u64::MAX);
        let micro = config.micro_packs.min(step).min(packs.train().len() as u64).max(1);
        packs.all().iter().fold(Self::default(), |most, pack| Self {
            tokens: most.tokens.max((pack.tokens() as u64).saturating_mul(micro)),
            rows: most.rows.max((pack.trained() as u64).saturating_mul(micro)),
        })
    }
}

impl Budget {
    /// The budget of a training. `memory` is what there is: `config.memory` comes before it. `card` says whether
    /// libraries' own memory is of the same kind.
    pub fn new(
        config: &Config,
        shape: &Architecture,
        flight: Flight,
        memory: Option<u64>,
        card: bool,
    ) -> Self {
        let memory = config.memory.or(memory);
        let needs = Needs::new(config, shape, flight, card);
        let levels = needs.levels(config.activations, memory);
        let count = |level: Level| levels.iter().filter(|known| **known == level).count() as u64;
        // Nothing real is beyond 64 bits, and what is fits nowhere.
        let bytes = |sum: u128| u64::try_from(sum).unwrap_or(u64::MAX);
        let total = bytes(needs.total(&levels));
        Self {
            parameters: shape.parameters(),
            trainable: bytes(needs.trainable),
            weight_bytes: bytes(needs.weights),
            gradient_bytes: bytes(needs.gradients),
            optimizer_bytes: bytes(needs.state),
            tokens_in_flight: flight.tokens,
            kept: Kept {
                everything: count(Level::Everything),
                lean: count(Level::Lean),
                inputs: count(Level::Inputs),
            },
            activation_bytes: bytes(needs.activations(&levels)),
            logit_bytes: bytes(needs.head),
            total_bytes: total,
            memory_bytes: memory,
            fits: memory.map(|memory| total <= memory),
            levels,
            narrower: config.adapters().is_none(),
        }
    }
}

impl Budget {
    /// What the training needs, in words, for whoever has not got it.
    pub fn words(&self) -> String {
        let gib = |bytes: u64| format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30));
        format!(
            "{} in all: {} for weights, {} for their gradients, {} for the optimizer, {} for activations of {} tokens",
            gib(self.total_bytes),
            gib(self.weight_bytes),
            gib(self.gradient_bytes),
            gib(self.optimizer_bytes),
            gib(self.activation_bytes),
            self.tokens_in_flight
        )
    }

    /// The error of a training that has too little memory; `said` is what was said about it.
    pub fn refused(&self, said: &str) -> Error {
        Error::Memory { reason: format!("{said}; the training needs {}", self.words()), hint: self.advice() }
    }

    /// What to change for less memory: what helps the most first.
    pub fn advice(&self) -> String {
        let state = self.weight_bytes + self.gradient_bytes + self.optimizer_bytes;
        let mut ways = Vec::new();
        if self.narrower {
            let half = state > self.parameters.saturating_mul(8);
            let narrow = "set `dtype = \"bf16\"` with a lower `state_bytes` (12, 10 or 8)";
            let adapters = "train adapters (`method = \"lora\"`)";
            ways.push(if half { format!("{narrow}, or {adapters}") } else { adapters.to_owned() });
        }
        let mut short = "lower `micro_packs`, or `sequence_tokens` of the pack stage".to_owned();
        if self.kept.inputs < self.levels.len() as u64 {
            short += ", or set `activations = \"inputs\"`";
        }
        ways.push(short);
        if state < self.activation_bytes {
            ways.reverse();
        }
        ways.join("; or ")
    }
}

/// Bytes of the parts of a training.
struct Needs {
    layers: usize,
    trainable: u128,
    weights: u128,
    gradients: u128,
    state: u128,
    /// Held from the start to the end besides: the sequence with its angles, and what libraries hold.
    always: u128,
    /// The residual stream, once.
    stream: u128,
    inner: Inner,
    /// The same of the last layer, behind whose attention untrained rows are left out.
    last: Inner,
    head: u128,
    /// States before the head, the same scaled (in f32 alone, and counted always), their gradient, and the last layer's
    /// output.
    states: u128,
    update: u128,
}

/// Bytes of a layer's parts.
#[derive(Clone, Copy)]
struct Inner {
    /// What [`Level::Lean`] keeps besides the input.
    lean: u128,
    /// What [`Level::Everything`] keeps besides that.
    rest: u128,
    /// What the way forward holds beside the kept, at most.
    forward: [u128; 3],
    /// What the way back holds beside what was kept and is kept again.
    backward: u128,
}

impl Needs {
    fn new(config: &Config, shape: &Architecture, flight: Flight, card: bool) -> Self {
        let width: u128 = match config.dtype {
            DType::F32 => 4,
            DType::Bf16 => 2,
        };
        let parameters = u128::from(shape.parameters());
        let size = |n: i64| n as u128;
        let adapters = config.adapters().map(|lora| {
            let widths = lora.targets.iter().map(|target| shape.projection(*target));
            let widths: i64 = widths.map(|(outputs, inputs)| outputs + inputs).sum();
            size(widths) * u128::from(lora.rank) * shape.layers() as u128
        });
        let trainable = adapters.unwrap_or(parameters);
        let state = match (config.dtype, config.state_bytes) {
            (DType::F32, _) => 8,
            (DType::Bf16, bytes) => u128::from(u8::from(bytes)) - 4,
        };
        let (tokens, trained_rows) = (u128::from(flight.tokens), u128::from(flight.rows));
        let inner = |rows: u128| inner(shape, width, tokens, rows, card);
        let (hidden, vocabulary) = (size(shape.hidden_size), size(shape.vocab_size));
        let slice = vocabulary * size(HEAD_ROWS).min(trained_rows.max(1));
        // Logits in f32, and where the weights are not f32, in their type too.
        let logits = slice * if width == 4 { 4 } else { 4 + width };
        // The head's gradient as the sum over slices in f32, and as one slice's product or, at the end, in the weights'
        // type. Products of f32 are added where they belong.
        let trained_head = adapters.is_none() && width != 4;
        // On the CPU, products of bf16 matrices are formed in f32.
        let product = if card { width } else { width + 4 };
        let head = logits + if trained_head { vocabulary * hidden * (4 + product) } else { 0 };
        let part = trainable.min(u128::from(update_elements(card)));
        let update = match (config.dtype, config.state_bytes) {
            (DType::F32, _) => 0,
            // The gradient; the weights where they are joined or widened; moments where they are narrow; and three
            // integers a weight while its halves are cut.
            (_, StateBytes::Sixteen) => 4 * part,
            (_, StateBytes::Twelve) => (4 + 4 + 4 + 8) * part,
            (_, StateBytes::Ten | StateBytes::Eight) => (4 + 4 + 8 + 8) * part,
        };
        // Ids, places and distinct ids in 64 bits, cosines and sines for half a head; rows, targets and weights.
        let sequence = tokens * (24 + 2 * size(shape.head_dim / 2) * width) + trained_rows * 20;
        Self {
            layers: shape.layers(),
            trainable,
            weights: (parameters + adapters.unwrap_or(0)) * width,
            gradients: trainable * width,
            state: trainable * state,
            always: sequence + if card { u128::from(LIBRARIES) } else { 0 },
            stream: tokens * hidden * width,
            inner: inner(tokens),
            last: inner(trained_rows),
            head,
            states: trained_rows * hidden * width * 4,
            update,
        }
    }

    fn inner(&self, layer: usize) -> &Inner {
        if layer + 1 == self.layers { &self.last } else { &self.inner }
    }

    fn kept(&self, layer: usize, level: Level) -> u128 {
        let inner = self.inner(layer);
        self.stream
            + match level {
                Level::Everything => inner.lean + inner.rest,
                Level::Lean => inner.lean,
                Level::Inputs => 0,
            }
    }

    /// The most that activations take at any moment, the head's part included.
    fn activations(&self, levels: &[Level]) -> u128 {
        let (mut most, mut kept) = (0, 0);
        for (layer, level) in levels.iter().enumerate() {
            let inner = self.inner(layer);
            // On the way forward, the layer's input is kept already and its output is not yet.
            kept += self.kept(layer, *level);
            most = most.max(kept + inner.forward[*level as usize]);
        }
        most = most.max(kept + self.states + self.head);
        for (layer, level) in levels.iter().enumerate().rev() {
            let inner = self.inner(layer);
            let again = match level {
                Level::Everything => 0,
                Level::Lean => inner.rest,
                Level::Inputs => inner.lean + inner.rest,
            };
            // The output's gradient and what the layer adds to it; recomputing has its own moment before.
            let forward = if *level == Level::Inputs { inner.forward[0] } else { 0 };
            most = most.max(kept + again + self.stream + inner.backward.max(forward));
            kept -= self.kept(layer, *level);
        }
        most
    }

    fn total(&self, levels: &[Level]) -> u128 {
        let fixed = self.weights + self.gradients + self.state + self.always;
        // An update comes when the activations are gone.
        fixed + self.activations(levels).max(self.update)
    }

    /// What each layer keeps: as much as there is room for, from the last layer to the first, because what the last ones
    /// keep is gone when the first ones compute something again.
    fn levels(&self, wanted: Activations, memory: Option<u64>) -> Vec<Level> {
        let all = |level: Level| vec![level; self.layers];
        match wanted {
            Activations::Everything => return all(Level::Everything),
            Activations::Lean => return all(Level::Lean),
            Activations::Inputs => return all(Level::Inputs),
            Activations::Auto => {}
        }
        let Some(memory) = memory else { return all(Level::Everything) };
        let mut levels = all(Level::Inputs);
        for level in [Level::Lean, Level::Everything] {
            for layer in (0..self.layers).rev() {
                let before = std::mem::replace(&mut levels[layer], level);
                if self.total(&levels) > u128::from(memory) {
                    levels[layer] = before;
                    break;
                }
            }
        }
        levels
    }
}

/// A layer's parts for so many tokens, of which `rows` go on behind attention.
fn inner(shape: &Architecture, width: u128, tokens: u128, rows: u128, card: bool) -> Inner {
    let size = |n: i64| n as u128;
    let (hidden, inner) = (size(shape.hidden_size), size(shape.intermediate_size));
    let (queries, keys) = (size(shape.query_width()), size(shape.key_width()));
    let heads = size(shape.num_attention_heads);
    let key_heads = size(shape.num_key_value_heads);
    let Mixer::Attention(attention) = shape.mixers[0];
    let head_norms = if attention.head_norms { heads + key_heads } else { 0 };
    // q, k, v as projected and what attention made; its sums and the norms' r in f32; behind it the stream, gate and up.
    // The last layer also copies the rows that go on.
    let copied = if rows < tokens { rows * queries } else { 0 };
    let lean = (tokens * (2 * queries + 2 * keys) + copied + rows * (hidden + 2 * inner)) * width
        + (tokens * (heads + head_norms + 1) + rows) * 4;
    // Normed rows, q and k normed and rotated, normed rows again, and the gated product.
    let rest = (tokens * (hidden + queries + keys) + rows * (hidden + inner)) * width;
    // On the way forward: the output; what is computed and not kept; on the CPU, a norm's rows in f32 before and after.
    let output = rows * hidden * width;
    let normed = if card || width == 4 { 0 } else { 2 * tokens * hidden * 4 };
    let loose = (tokens * hidden + rows * (hidden + inner)) * width;
    let forward = [output + normed, output + normed + loose, output + normed + lean + loose];
    // On the way back: through the MLP, three of its width and the gradient of the stream; through attention, the
    // gradients of what it read, before and after the rotation, and of the stream.
    let mlp = rows * (3 * inner + hidden) * width;
    let norm = if card { 0 } else { 3 * tokens * queries.max(hidden) * 4 };
    // FlashAttention's backward pass repeats keys and values, and adds up the gradient of queries in f32.
    let flash = if card { tokens * queries * (2 * width + 4) } else { 0 };
    let mixing = tokens * (3 * queries + 3 * keys + 2 * hidden) * width + norm + flash;
    Inner { lean, rest, forward, backward: mlp.max(mixing) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use finch_core::training::Base;
    use serde_json::json;

    const GIB: u64 = 1 << 30;

    fn qwen3_8b() -> Architecture {
        let config = json!({
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288,
            "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "max_position_embeddings": 40960,
        });
        Architecture::from_config(config).expect("config")
    }

    fn config(state: StateBytes) -> Config {
        let mut config = Config::new(Base::Checkpoint("m".into()), 1e-5);
        (config.dtype, config.state_bytes) = (DType::Bf16, state);
        config
    }

    fn budget(state: StateBytes, tokens: u64, memory: u64) -> Budget {
        let flight = Flight { tokens, rows: tokens };
        Budget::new(&config(state), &qwen3_8b(), flight, Some(memory * GIB), true)
    }

    #[test]
    fn state_bytes_are_what_a_weight_takes_in_all() {
        for state in [StateBytes::Sixteen, StateBytes::Twelve, StateBytes::Ten, StateBytes::Eight] {
            let budget = budget(state, 4096, 139);
            let all = budget.weight_bytes + budget.gradient_bytes + budget.optimizer_bytes;
            assert_eq!(all, budget.parameters * u64::from(u8::from(state)));
        }
    }

    #[test]
    fn eight_billion_weights_and_a_long_pack_fit_an_h200_when_some_layers_compute_again() {
        let budget = budget(StateBytes::Twelve, 32_768, 139);
        assert_eq!(budget.fits, Some(true), "{budget:?}");
        assert!(budget.kept.lean > 0 && budget.kept.inputs > 0, "{:?}", budget.kept);
        // The last layers keep the most.
        assert!(budget.levels.windows(2).all(|pair| pair[0] >= pair[1]), "{:?}", budget.levels);
        assert_eq!(self::budget(StateBytes::Sixteen, 32_768, 139).fits, Some(false));
        let small = self::budget(StateBytes::Twelve, 2048, 139);
        assert_eq!(small.kept.everything, 36, "{:?}", small.kept);
    }

    #[test]
    fn more_memory_never_keeps_less_and_what_is_said_to_fit_does() {
        let mut kept = 0;
        for memory in (90..200).step_by(10) {
            let budget = budget(StateBytes::Twelve, 16_384, memory);
            let now = 2 * budget.kept.everything + budget.kept.lean;
            assert!(now >= kept, "{memory} GiB");
            assert_eq!(budget.fits, Some(budget.total_bytes <= memory * GIB));
            kept = now;
        }
        assert!(kept > 36);
    }

    #[test]
    fn adapters_need_little_besides_frozen_weights() {
        let mut lora = config(StateBytes::Sixteen);
        lora.method = finch_core::training::Method::Lora;
        let budget = Budget::new(&lora, &qwen3_8b(), Flight { tokens: 4096, rows: 4096 }, None, true);
        // Rank 16: 16 x (sum of outputs and inputs of seven projections) x 36.
        assert_eq!(budget.trainable, 16 * 36 * (2 * 8192 + 2 * 5120 + 3 * 16_384));
        assert!(budget.total_bytes < 45 * GIB, "{}", budget.total_bytes);
    }
}
