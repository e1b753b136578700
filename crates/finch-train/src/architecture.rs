//! A model's shape, from a `config.json` in the Hugging Face form; its tensors by name.
//!
//! Only Qwen3's dense decoder so far. What a config asks for and this program does not have is an error, never
//! ignored: a model that trains with another rotary scaling than it was made with would look healthy.

use std::path::Path;

use finch_core::Code;
use finch_core::training::{Base, DType, files};
use serde_json::Value;

use crate::error::{Error, Result};

/// The shape of a Qwen3 decoder. Names follow `transformers`' `Qwen3Config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width inside the gated MLP.
    pub intermediate_size: i64,
    /// Layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; query heads are a multiple of them.
    pub num_key_value_heads: i64,
    /// Width of a head; need not be `hidden_size / num_attention_heads`.
    pub head_dim: i64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square in RMS norms.
    pub rms_norm_eps: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// The longest document that the model was made for.
    pub max_position_embeddings: i64,
    /// The whole config, to be written back.
    pub config: Value,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in Hugging Face checkpoints.
    pub name: String,
    /// Its shape.
    pub shape: Vec<i64>,
}

/// The embedding's name, which a tied head shares.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// The head's name, where it is not tied.
pub const HEAD: &str = "lm_head.weight";
/// The name of the norm before the head.
pub const FINAL_NORM: &str = "model.norm.weight";

/// Sizes above this are no model's. With the other limits, a model has less than 2^57 weights.
const LARGEST: i64 = 1 << 20;
/// No vocabulary has more entries.
const LARGEST_VOCABULARY: i64 = 1 << 24;
/// More layers are no model's; each is eleven tensors with names.
const MOST_LAYERS: i64 = 10_000;

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
        let refuse_unless = |key: &str, allowed: &[Value]| match config.get(key) {
            None => Ok(()),
            Some(value) if allowed.contains(value) => Ok(()),
            Some(value) => Err(format!("`{key}` is {value}, which this trainer does not have")),
        };
        match config.get("model_type").and_then(Value::as_str) {
            Some("qwen3") => {}
            Some(other) => {
                return Err(format!("`model_type` is `{other}`; `qwen3` is what this trainer has"));
            }
            None => return Err("it has no `model_type`".to_owned()),
        }
        refuse_unless("attention_bias", &[false.into()])?;
        refuse_unless("attention_dropout", &[0.into(), 0.0.into()])?;
        refuse_unless("hidden_act", &["silu".into()])?;
        refuse_unless("use_sliding_window", &[false.into()])?;
        refuse_unless("rope_scaling", &[Value::Null])?;
        let full = |kind: &Value| kind == "full_attention";
        let all_full = |kinds: &Value| kinds.as_array().is_some_and(|kinds| kinds.iter().all(full));
        if let Some(kinds) = config.get("layer_types").filter(|kinds| !kinds.is_null()) {
            let layers = config.get("num_hidden_layers").and_then(Value::as_u64);
            if !all_full(kinds) || kinds.as_array().map(|kinds| kinds.len() as u64) != layers {
                return Err("`layer_types` is not `full_attention` for each layer".to_owned());
            }
        }
        refuse_unless("quantization_config", &[Value::Null])?;
        refuse_unless("architectures", &[Value::Null, serde_json::json!(["Qwen3ForCausalLM"])])?;
        // transformers 5 writes `rope_parameters`; earlier versions write `rope_theta` beside the others.
        let rope = match config.get("rope_parameters") {
            None | Some(Value::Null) => None,
            Some(Value::Object(rope)) => Some(rope),
            Some(other) => return Err(format!("`rope_parameters` is {other}, not an object")),
        };
        for (key, value) in rope.into_iter().flatten() {
            // `type` is the older name of `rope_type`.
            let had = match key.as_str() {
                "rope_theta" => true,
                "rope_type" | "type" => value == "default",
                "partial_rotary_factor" => value.as_f64() == Some(1.0),
                _ => value.is_null(),
            };
            if !had {
                return Err(format!("`rope_parameters.{key}` is {value}, which this trainer does not have"));
            }
        }
        let within = |key: &str, most: i64| match config.get(key).and_then(Value::as_i64) {
            Some(size) if (1..=most).contains(&size) => Ok(size),
            Some(size) => Err(format!("`{key}` is {size}")),
            None => Err(format!("`{key}` is missing, or no whole number")),
        };
        let integer = |key: &str| within(key, LARGEST);
        let number = |value: Option<&Value>, key: &str| match value.and_then(Value::as_f64) {
            Some(number) if number.is_finite() && number > 0.0 => Ok(number),
            _ => Err(format!("`{key}` is missing, or not above 0")),
        };
        let theta = rope.and_then(|rope| rope.get("rope_theta")).or_else(|| config.get("rope_theta"));
        let shape = Self {
            vocab_size: within("vocab_size", LARGEST_VOCABULARY)?,
            hidden_size: integer("hidden_size")?,
            intermediate_size: integer("intermediate_size")?,
            num_hidden_layers: within("num_hidden_layers", MOST_LAYERS)?,
            num_attention_heads: integer("num_attention_heads")?,
            num_key_value_heads: integer("num_key_value_heads")?,
            head_dim: integer("head_dim")?,
            rope_theta: number(theta, "rope_theta")?,
            rms_norm_eps: number(config.get("rms_norm_eps"), "rms_norm_eps")?,
            tie_word_embeddings: match config.get("tie_word_embeddings") {
                None => false,
                Some(tied) => tied.as_bool().ok_or("`tie_word_embeddings` is not true or false")?,
            },
            initializer_range: match config.get("initializer_range") {
                None => 0.02,
                range => number(range, "initializer_range")?,
            },
            max_position_embeddings: within("max_position_embeddings", i64::MAX)?,
            config,
        };
        if shape.num_attention_heads * shape.head_dim > LARGEST {
            return Err(format!("{} heads of {} are too wide", shape.num_attention_heads, shape.head_dim));
        }
        if shape.num_attention_heads % shape.num_key_value_heads != 0 {
            return Err(format!(
                "{} query heads are no multiple of {} key heads",
                shape.num_attention_heads, shape.num_key_value_heads
            ));
        }
        if shape.head_dim % 2 != 0 {
            return Err(format!("`head_dim` is {}; rotary positions need an even one", shape.head_dim));
        }
        Ok(shape)
    }

    /// Every tensor, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let (hidden, heads, keys) = (
            self.hidden_size,
            self.num_attention_heads * self.head_dim,
            self.num_key_value_heads * self.head_dim,
        );
        let tensor = |name: String, shape: &[i64]| TensorSpec { name, shape: shape.to_vec() };
        let mut tensors = vec![tensor(EMBEDDING.to_owned(), &[self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let parts: [(&str, &[i64]); 11] = [
                ("input_layernorm", &[hidden]),
                ("self_attn.q_proj", &[heads, hidden]),
                ("self_attn.k_proj", &[keys, hidden]),
                ("self_attn.v_proj", &[keys, hidden]),
                ("self_attn.q_norm", &[self.head_dim]),
                ("self_attn.k_norm", &[self.head_dim]),
                ("self_attn.o_proj", &[hidden, heads]),
                ("post_attention_layernorm", &[hidden]),
                ("mlp.gate_proj", &[self.intermediate_size, hidden]),
                ("mlp.up_proj", &[self.intermediate_size, hidden]),
                ("mlp.down_proj", &[hidden, self.intermediate_size]),
            ];
            tensors.extend(
                parts.map(|(part, shape)| tensor(format!("model.layers.{layer}.{part}.weight"), shape)),
            );
        }
        tensors.push(tensor(FINAL_NORM.to_owned(), &[hidden]));
        if !self.tie_word_embeddings {
            tensors.push(tensor(HEAD.to_owned(), &[self.vocab_size, hidden]));
        }
        tensors
    }

    /// The number of weights.
    pub fn parameters(&self) -> u64 {
        self.tensors().iter().map(TensorSpec::numel).sum()
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
            fields.entry("architectures").or_insert_with(|| serde_json::json!(["Qwen3ForCausalLM"]));
        }
        config
    }
}

impl TensorSpec {
    /// Numbers in the tensor.
    pub fn numel(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
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
        assert_eq!(Architecture::from_config(config).expect("config").rope_theta, 5e5);
    }

    #[test]
    fn what_the_trainer_does_not_have_is_refused_by_name() {
        for (key, value) in [
            ("model_type", json!("llama")),
            ("attention_bias", json!(true)),
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
    }
}
