//! How many operations a model needs for a token, by the convention that the log states.
//!
//! Six for each weight of a matrix product (two forward, four backward), the embedding's lookup aside; and for attention
//! six times layers, query heads, head width and document length, which counts the causal half (Chowdhery et al., arXiv
//! 2204.02311, appendix B, which counts the whole square). A weight that is frozen needs four: no gradient of it is
//! formed. What is computed again for want of memory does not count, nor does it that the last layer and the head are
//! spared the rows that are not trained.

use finch_core::training::{self, Config};

use crate::architecture::{Architecture, EMBEDDING, TensorSpec, decays};

/// A model's operations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Flops {
    /// Of a token, whatever its document.
    per_token: f64,
    /// Of a token and each token of its document.
    per_pair: f64,
}

impl Flops {
    /// Operations of a model in a training.
    pub fn new(shape: &Architecture, config: &Config) -> Self {
        let tensors = shape.tensors();
        let matrices = tensors.iter().filter(|spec| decays(&spec.shape) && spec.name != EMBEDDING);
        let mut weights: u64 = matrices.map(TensorSpec::numel).sum();
        if shape.tie_word_embeddings {
            weights += (shape.vocab_size * shape.hidden_size) as u64;
        }
        let adapters = config.adapters().map(|lora| {
            let widths = lora.targets.iter().map(|target| shape.projection(*target));
            let width: i64 = widths.map(|(outputs, inputs)| outputs + inputs).sum();
            (width as u64) * u64::from(lora.rank) * shape.layers() as u64
        });
        let per_token = match adapters {
            None => 6.0 * weights as f64,
            Some(adapters) => 4.0 * weights as f64 + 6.0 * adapters as f64,
        };
        Self { per_token, per_pair: 6.0 * (shape.layers() as f64) * shape.query_width() as f64 }
    }

    /// Operations of documents of these lengths, forward and backward.
    pub fn of(&self, lengths: impl IntoIterator<Item = usize>) -> f64 {
        lengths
            .into_iter()
            .map(|length| (self.per_token + self.per_pair * length as f64) * length as f64)
            .sum()
    }
}

/// The convention and, where somebody measured it, what a card can do.
pub fn convention(card: Option<&str>) -> training::Flops {
    // An H200's 8192^3 product of bf16 matrices with random numbers took as long as 788 TFLOP/s need, and 769 to 798 in
    // other runs; NVIDIA's datasheet has 989 for it and for the H100.
    let peak = match card {
        Some(name) if name.contains("H200") => {
            Some((790.0, "a product of 8192 x 8192 bf16 matrices, measured on an H200"))
        }
        Some(name) if name.contains("H100") => Some((989.0, "dense bf16, NVIDIA's datasheet")),
        _ => None,
    };
    training::Flops {
        convention: "6 for each weight of a matrix product (4 where it is frozen) and 6 x layers x heads x head width x \
                     document length (the causal half) a token; nothing that is computed again counts"
            .to_owned(),
        peak_tflops: peak.map(|(tflops, _)| tflops),
        peak_source: peak.map(|(_, source)| source.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use finch_core::training::{Base, Lora, Method};
    use serde_json::json;

    fn shape(tied: bool) -> Architecture {
        let config = json!({
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 12288,
            "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
            "rope_theta": 1e6, "rms_norm_eps": 1e-6, "tie_word_embeddings": tied, "max_position_embeddings": 40960,
        });
        Architecture::from_config(config).expect("config")
    }

    #[test]
    fn qwen3_8b_needs_what_its_weights_say() {
        let config = Config::new(Base::Checkpoint("m".into()), 1e-5);
        // 8.19 billion weights, of which 0.62 are looked up: 45.4 GFLOP a token, and 3.6 for documents of 4,096 tokens.
        let flops = Flops::new(&shape(false), &config);
        assert!((flops.per_token / 45.4e9 - 1.0).abs() < 0.002, "{}", flops.per_token);
        assert!((flops.per_pair * 4096.0 / 3.6e9 - 1.0).abs() < 0.01, "{}", flops.per_pair);
        assert_eq!(flops.of([4096, 4096]), 2.0 * flops.of([4096]));
        assert_eq!(Flops::new(&shape(true), &config), flops, "a tied head is multiplied with all the same");
    }

    #[test]
    fn frozen_weights_need_two_thirds() {
        let mut config = Config::new(Base::Checkpoint("m".into()), 1e-5);
        let full = Flops::new(&shape(false), &config);
        (config.method, config.lora) = (Method::Lora, Some(Lora { rank: 1, ..Lora::default() }));
        let ratio = Flops::new(&shape(false), &config).per_token / full.per_token;
        assert!((0.666..0.668).contains(&ratio), "{ratio}");
    }
}
