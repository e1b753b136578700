//! A model's shape, from a `config.json` in the Hugging Face form; its tensors by name.
//!
//! Decoders of one family: Qwen3, Qwen2 (which Qwen2.5 is called in configs) and Llama 3 differ in what is normed, where
//! there are biases, and how positions rotate, and nowhere else. What a config asks for and this program does not have is
//! an error, never ignored: a model that trains with another rotary scaling than it was made with would look healthy.

mod reading;
mod rope;
mod tensors;

use std::path::Path;

use finch_core::Code;
use finch_core::training::{Base, DType, Projection, files};
use serde_json::Value;

use crate::error::{Error, Result};

pub use self::rope::{Llama3, Rope};
pub use self::tensors::{EMBEDDING, FINAL_NORM, HEAD, TensorSpec, decays, layer_of};

/// The shape of a decoder. Names follow `transformers`' configs.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width inside the gated MLP.
    pub intermediate_size: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; query heads are a multiple of them.
    pub num_key_value_heads: i64,
    /// Width of a head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: i64,
    /// What each layer mixes tokens with, from the first to the last.
    pub mixers: Vec<Mixer>,
    /// Whether the gated MLP's projections have biases.
    pub mlp_bias: bool,
    /// How positions rotate queries and keys.
    pub rope: Rope,
    /// Added to the mean square in RMS norms.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// The longest document that the model was made for.
    pub max_position_embeddings: i64,
    /// The name of the class in `transformers`, for configs that do not say it.
    pub class: &'static str,
    /// The whole config, to be written back.
    pub config: Value,
}

/// How a layer mixes tokens. Hybrids, such as Qwen3.5, have layers of several kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixer {
    /// Softmax attention over the document.
    Attention(Attention),
}

/// What self-attention has besides its four projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Whether each head of queries and keys is normed before it is rotated.
    pub head_norms: bool,
    /// Whether the projections of queries, keys and values have biases.
    pub input_bias: bool,
    /// Whether the projection of the output has one.
    pub output_bias: bool,
}

impl Architecture {
    /// The shape of the model that a training starts from.
    pub fn of(base: &Base) -> Result<Self> {
        match base {
            Base::Checkpoint(folder) => Self::read(&folder.join(files::CONFIG)),
            Base::Config { config, .. } => Self::read(config),
        }
    }

    /// Reads a `config.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).map_err(Error::io("read", path))?;
        let error = |reason: String| Error::Model {
            path: path.to_path_buf(),
            reason,
            code: Code::ModelConfig,
            hint: None,
        };
        let config: Value = serde_json::from_slice(&text).map_err(|source| error(source.to_string()))?;
        Self::from_config(config).map_err(error)
    }

    /// The shape that a config describes; what is wrong with it, in words.
    pub fn from_config(config: Value) -> Result<Self, String> {
        reading::read(config)
    }

    /// The number of layers.
    pub fn layers(&self) -> usize {
        self.mixers.len()
    }

    /// Width of all query heads together.
    pub fn query_width(&self) -> i64 {
        self.num_attention_heads * self.head_dim
    }

    /// Width of all key heads together, and of all value heads.
    pub fn key_width(&self) -> i64 {
        self.num_key_value_heads * self.head_dim
    }

    /// The number of weights.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(TensorSpec::numel).sum()
    }

    /// Outputs and inputs of a projection.
    pub fn projection(&self, projection: Projection) -> (i64, i64) {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        match projection {
            Projection::QProj => (self.query_width(), hidden),
            Projection::KProj | Projection::VProj => (self.key_width(), hidden),
            Projection::OProj => (hidden, self.query_width()),
            Projection::GateProj | Projection::UpProj => (inner, hidden),
            Projection::DownProj => (hidden, inner),
        }
    }

    /// The config to write beside weights of a type.
    pub fn written(&self, dtype: DType) -> Value {
        let mut config = self.config.clone();
        if let Value::Object(fields) = &mut config {
            fields.remove("torch_dtype");
            let name = match dtype {
                DType::F32 => "float32",
                DType::Bf16 => "bfloat16",
            };
            fields.insert("dtype".to_owned(), name.into());
            fields.entry("architectures").or_insert_with(|| serde_json::json!([self.class]));
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Qwen3-0.6B's config as published, as far as shapes depend on it.
    fn small() -> Value {
        json!({
            "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
            "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "rope_theta": 1e6, "rope_scaling": null, "rms_norm_eps": 1e-6, "tie_word_embeddings": true,
            "max_position_embeddings": 40960, "hidden_act": "silu", "attention_bias": false,
            "sliding_window": null, "use_sliding_window": false, "torch_dtype": "bfloat16",
        })
    }

    #[test]
    fn qwen3_0_6b_has_its_published_size() {
        // 0.6B in all, 0.44B without the embedding (model card of Qwen3-0.6B).
        let shape = Architecture::from_config(small()).expect("config");
        assert_eq!(shape.parameters(), 596_049_920);
        assert_eq!(shape.parameters() - 151_936 * 1024, 440_467_456);
        assert_eq!(shape.written(DType::F32)["dtype"], "float32");
    }

    #[test]
    fn both_forms_of_rope_are_read() {
        let mut config = small();
        config["rope_theta"] = Value::Null;
        config["rope_parameters"] = json!({"rope_type": "default", "rope_theta": 5e5});
        assert_eq!(Architecture::from_config(config).expect("config").rope.theta, 5e5);
    }

    /// Llama-3.1-8B's config as published, as far as shapes depend on it.
    fn llama() -> Value {
        json!({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
            "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
            "rope_theta": 5e5, "rms_norm_eps": 1e-5, "max_position_embeddings": 131072, "hidden_act": "silu",
            "attention_bias": false, "mlp_bias": false, "pretraining_tp": 1, "tie_word_embeddings": false,
            "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                             "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        })
    }

    /// Qwen2.5-7B's config as published, as far as shapes depend on it.
    fn qwen2() -> Value {
        json!({
            "model_type": "qwen2", "vocab_size": 152064, "hidden_size": 3584, "intermediate_size": 18944,
            "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "rope_theta": 1e6,
            "rms_norm_eps": 1e-6, "max_position_embeddings": 131072, "hidden_act": "silu", "attention_dropout": 0.0,
            "use_sliding_window": false, "sliding_window": 131072, "max_window_layers": 28, "use_mrope": false,
            "tie_word_embeddings": false,
        })
    }

    #[test]
    fn llama_and_qwen2_have_their_published_sizes() {
        // The indices of the published checkpoints name 16,060,522,496 and 15,231,233,024 bytes of bf16.
        let shape = Architecture::from_config(llama()).expect("config");
        assert_eq!((shape.parameters(), shape.head_dim), (8_030_261_248, 128));
        let scaling = shape.rope.scaling.expect("scaled");
        assert_eq!((scaling.factor, scaling.original), (8.0, 8192.0));
        assert_eq!(Architecture::from_config(qwen2()).expect("config").parameters(), 7_615_616_512);
    }

    #[test]
    fn what_the_trainer_does_not_have_is_refused_by_name() {
        for (key, value) in [
            ("model_type", json!("mistral")),
            ("hidden_act", json!("gelu")),
            ("use_sliding_window", json!(true)),
            ("rope_scaling", json!({"type": "yarn", "factor": 4})),
            ("rope_parameters", json!({"rope_type": "yarn", "rope_theta": 1e6})),
            ("layer_types", json!(["linear_attention"])),
            ("layer_types", json!("full_attention")),
            ("layer_types", json!([])),
            ("rope_parameters", json!("yarn")),
            ("rope_parameters", json!({"type": "yarn", "factor": 4, "rope_theta": 1e6})),
            ("rope_parameters", json!({"rope_type": 5, "rope_theta": 1e6})),
            ("rope_parameters", json!({"partial_rotary_factor": 0.5, "rope_theta": 1e6})),
            ("quantization_config", json!({"bits": 4})),
            ("architectures", json!(["Qwen3ForSequenceClassification"])),
            ("tie_word_embeddings", json!("true")),
            ("initializer_range", json!("0.02")),
            ("num_attention_heads", json!(1 << 16)),
            ("hidden_size", json!(0)),
            ("hidden_size", json!(i64::MAX)),
            ("hidden_size", json!("wide")),
            ("num_hidden_layers", json!(1_000_000)),
            ("num_key_value_heads", json!(3)),
            ("head_dim", json!(127)),
            ("rms_norm_eps", json!(-1)),
            ("rope_theta", json!(null)),
        ] {
            let mut config = small();
            config[key] = value;
            assert!(Architecture::from_config(config).is_err(), "{key}");
        }
        for (key, value) in [
            ("use_mrope", json!(true)),
            ("use_sliding_window", json!(true)),
            ("num_attention_heads", json!(27)),
        ] {
            let mut config = qwen2();
            config[key] = value;
            assert!(Architecture::from_config(config).is_err(), "qwen2: {key}");
        }
        for (key, value) in [
            ("rope_scaling", json!({"factor": 8.0, "rope_type": "llama3"})),
            ("rope_scaling", json!({"factor": 8.0, "rope_type": "linear"})),
            (
                "rope_scaling",
                json!({"factor": 8.0, "low_freq_factor": 4.0, "high_freq_factor": 4.0,
                                    "original_max_position_embeddings": 8192, "rope_type": "llama3"}),
            ),
            ("pretraining_tp", json!(2)),
        ] {
            let mut config = llama();
            config[key] = value;
            assert!(Architecture::from_config(config).is_err(), "llama: {key}");
        }
    }
}
