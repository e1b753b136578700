//! The tensors of a model, under their names in Hugging Face checkpoints.

use super::{Architecture, Mixer};

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

impl TensorSpec {
    /// Numbers in the tensor.
    pub fn numel(&self) -> u64 {
        self.shape.iter().map(|&size| size as u64).product()
    }
}

/// Whether weight decay is for a tensor of this shape: for matrices it is, for norms and biases it is not.
pub fn decays(shape: &[i64]) -> bool {
    shape.len() > 1
}

/// The layer that a tensor is of, by its name.
pub fn layer_of(name: &str) -> Option<u64> {
    name.strip_prefix("model.layers.")?.split('.').next()?.parse().ok()
}

impl Architecture {
    /// Every tensor, in the order of the forward pass.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let hidden = self.hidden_size;
        let mut tensors = vec![spec(EMBEDDING, &[self.vocab_size, hidden])];
        for (layer, mixer) in self.mixers.iter().enumerate() {
            let parts = self.mixer(*mixer).into_iter().chain(self.mlp());
            tensors.extend(
                parts.map(|part| TensorSpec { name: format!("model.layers.{layer}.{}", part.name), ..part }),
            );
        }
        tensors.push(spec(FINAL_NORM, &[hidden]));
        if !self.tie_word_embeddings {
            tensors.push(spec(HEAD, &[self.vocab_size, hidden]));
        }
        tensors
    }

    /// A layer's first half.
    fn mixer(&self, mixer: Mixer) -> Vec<TensorSpec> {
        let (hidden, queries, keys) = (self.hidden_size, self.query_width(), self.key_width());
        let mut parts = vec![spec("input_layernorm.weight", &[hidden])];
        match mixer {
            Mixer::Attention(attention) => {
                for (part, outputs) in [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)] {
                    parts.extend(projection(
                        &format!("self_attn.{part}"),
                        outputs,
                        hidden,
                        attention.input_bias,
                    ));
                }
                if attention.head_norms {
                    parts.push(spec("self_attn.q_norm.weight", &[self.head_dim]));
                    parts.push(spec("self_attn.k_norm.weight", &[self.head_dim]));
                }
                parts.extend(projection("self_attn.o_proj", hidden, queries, attention.output_bias));
            }
        }
        parts
    }

    /// A layer's second half.
    fn mlp(&self) -> Vec<TensorSpec> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let mut parts = vec![spec("post_attention_layernorm.weight", &[hidden])];
        for (part, outputs, inputs) in
            [("gate_proj", inner, hidden), ("up_proj", inner, hidden), ("down_proj", hidden, inner)]
        {
            parts.extend(projection(&format!("mlp.{part}"), outputs, inputs, self.mlp_bias));
        }
        parts
    }
}

fn spec(name: &str, shape: &[i64]) -> TensorSpec {
    TensorSpec { name: name.to_owned(), shape: shape.to_vec() }
}

fn projection(name: &str, outputs: i64, inputs: i64, bias: bool) -> impl Iterator<Item = TensorSpec> {
    let weight = spec(&format!("{name}.weight"), &[outputs, inputs]);
    [Some(weight), bias.then(|| spec(&format!("{name}.bias"), &[outputs]))].into_iter().flatten()
}
