//! A `config.json` read into an [`Architecture`]: each key that matters is known, or refused by its name.

use serde_json::Value;

use super::rope::{self, number};
use super::{Architecture, Attention, Mixer};

/// Sizes above this are no model's. With the other limits, a model has less than 2^57 weights.
const LARGEST: i64 = 1 << 20;
/// No vocabulary has more entries.
const LARGEST_VOCABULARY: i64 = 1 << 24;
/// More layers are no model's; each is a dozen tensors with names.
const MOST_LAYERS: i64 = 10_000;

/// What the families differ in.
struct Family {
    model_type: &'static str,
    class: &'static str,
    attention: fn(bias: bool) -> Attention,
    /// Whether the config says of biases, and `attention_bias` may be true.
    says_bias: bool,
    /// The width of heads where the config does not say it and it is not the hidden width shared among them.
    head_dim: Option<i64>,
}

const FAMILIES: [Family; 3] = [
    Family {
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        attention: |bias| Attention { head_norms: true, input_bias: bias, output_bias: bias },
        says_bias: true,
        head_dim: Some(128),
    },
    Family {
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        attention: |_| Attention { head_norms: false, input_bias: true, output_bias: false },
        says_bias: false,
        head_dim: None,
    },
    Family {
        model_type: "llama",
        class: "LlamaForCausalLM",
        attention: |bias| Attention { head_norms: false, input_bias: bias, output_bias: bias },
        says_bias: true,
        head_dim: None,
    },
];

/// Reads a config; what is wrong with it, in words.
pub(super) fn read(config: Value) -> Result<Architecture, String> {
    let family = family(&config)?;
    let refuse_unless = |key: &str, allowed: &[Value]| match config.get(key) {
        None => Ok(()),
        Some(value) if allowed.contains(value) => Ok(()),
        Some(value) => Err(format!("`{key}` is {value}, which this trainer does not have")),
    };
    refuse_unless("attention_dropout", &[0.into(), 0.0.into()])?;
    refuse_unless("hidden_act", &["silu".into()])?;
    refuse_unless("use_sliding_window", &[false.into()])?;
    refuse_unless("use_mrope", &[false.into()])?;
    refuse_unless("pretraining_tp", &[1.into()])?;
    refuse_unless("quantization_config", &[Value::Null])?;
    refuse_unless("architectures", &[Value::Null, serde_json::json!([family.class])])?;
    let flag = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(flag) => flag.as_bool().ok_or_else(|| format!("`{key}` is not true or false")),
    };
    let within = |key: &str, most: i64| match config.get(key).and_then(Value::as_i64) {
        Some(size) if (1..=most).contains(&size) => Ok(size),
        Some(size) => Err(format!("`{key}` is {size}")),
        None => Err(format!("`{key}` is missing, or no whole number")),
    };
    let integer = |key: &str| within(key, LARGEST);
    let layers = within("num_hidden_layers", MOST_LAYERS)?;
    let (hidden, heads) = (integer("hidden_size")?, integer("num_attention_heads")?);
    let attention = (family.attention)(family.says_bias && flag("attention_bias")?);
    let shape = Architecture {
        vocab_size: within("vocab_size", LARGEST_VOCABULARY)?,
        hidden_size: hidden,
        intermediate_size: integer("intermediate_size")?,
        num_attention_heads: heads,
        num_key_value_heads: integer("num_key_value_heads")?,
        head_dim: match config.get("head_dim") {
            None | Some(Value::Null) => match family.head_dim {
                Some(width) => width,
                None if hidden % heads == 0 => hidden / heads,
                None => {
                    let reason = format!("`hidden_size` {hidden} is no multiple of {heads} heads");
                    return Err(format!("{reason}, and `head_dim` is missing"));
                }
            },
            Some(_) => integer("head_dim")?,
        },
        mixers: mixers(&config, layers, Mixer::Attention(attention))?,
        mlp_bias: flag("mlp_bias")?,
        rope: rope::read(&config)?,
        rms_norm_eps: number("rms_norm_eps", config.get("rms_norm_eps"))?,
        tie_word_embeddings: flag("tie_word_embeddings")?,
        initializer_range: match config.get("initializer_range") {
            None => 0.02,
            range => number("initializer_range", range)?,
        },
        max_position_embeddings: within("max_position_embeddings", i64::MAX)?,
        class: family.class,
        config,
    };
    check(&shape)?;
    Ok(shape)
}

fn family(config: &Value) -> Result<&'static Family, String> {
    let name = config.get("model_type").and_then(Value::as_str).ok_or("it has no `model_type`")?;
    FAMILIES.iter().find(|family| family.model_type == name).ok_or_else(|| {
        let known = FAMILIES.map(|family| format!("`{}`", family.model_type)).join(", ");
        format!("`model_type` is `{}`; this trainer has {known}", name.escape_debug())
    })
}

/// What each layer mixes tokens with. Configs of one kind of layer need not say it.
fn mixers(config: &Value, layers: i64, only: Mixer) -> Result<Vec<Mixer>, String> {
    if let Some(kinds) = config.get("layer_types").filter(|kinds| !kinds.is_null()) {
        let all = |kinds: &Vec<Value>| kinds.iter().all(|kind| kind == "full_attention");
        if !kinds.as_array().is_some_and(|kinds| kinds.len() as i64 == layers && all(kinds)) {
            return Err("`layer_types` is not `full_attention` for each layer".to_owned());
        }
    }
    Ok(vec![only; layers as usize])
}

fn check(shape: &Architecture) -> Result<(), String> {
    if shape.query_width() > LARGEST {
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
    Ok(())
}
