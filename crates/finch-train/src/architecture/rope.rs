//! Rotary positions: the frequencies by which queries and keys turn.

use serde_json::{Map, Value};

/// How positions rotate queries and keys (Su et al., arXiv 2104.09864).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rope {
    /// The base of the frequencies: pair i of a head of width d turns by `theta^(-2i/d)` a token.
    pub theta: f64,
    /// How they are stretched for longer documents than the model was made with first.
    pub scaling: Option<Llama3>,
}

/// Llama 3.1's stretching: slow pairs turn `factor` times slower, fast ones as before, those between in between.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Llama3 {
    /// How much slower.
    pub factor: f64,
    /// Pairs that turn less often than this in `original` tokens are slow.
    pub low: f64,
    /// Pairs that turn more often than this in `original` tokens are fast.
    pub high: f64,
    /// The length that the model was made with first.
    pub original: f64,
}

impl Llama3 {
    /// The stretched form of a frequency, in radians a token; in f32, as the models were made.
    ///
    /// The formula is that of `transformers`' rope type `llama3`.
    pub fn stretched(&self, frequency: f32) -> f32 {
        let (factor, low, high, original) =
            (self.factor as f32, self.low as f32, self.high as f32, self.original as f32);
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        if wavelength > original / low {
            return frequency / factor;
        }
        if wavelength < original / high {
            return frequency;
        }
        let smooth = (original / wavelength - low) / (high - low);
        (1.0 - smooth) * frequency / factor + smooth * frequency
    }
}

/// Reads a config's rotary positions; what is wrong with them, in words.
pub(super) fn read(config: &Value) -> Result<Rope, String> {
    // transformers 5 writes `rope_parameters`; earlier versions write `rope_theta` and `rope_scaling` beside the others.
    let object = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some((key.to_owned(), fields))),
        Some(other) => Err(format!("`{key}` is {other}, not an object")),
    };
    let parameters = object("rope_parameters")?;
    let theta = parameters
        .as_ref()
        .and_then(|(_, fields)| fields.get("rope_theta"))
        .or_else(|| config.get("rope_theta"));
    let theta = number("rope_theta", theta)?;
    let mut scaling = None;
    for (key, fields) in [parameters, object("rope_scaling")?].into_iter().flatten() {
        scaling = read_scaling(&key, fields)?.or(scaling);
    }
    Ok(Rope { theta, scaling })
}

fn read_scaling(key: &str, fields: &Map<String, Value>) -> Result<Option<Llama3>, String> {
    // `type` is the older name of `rope_type`.
    let kinds = ["rope_type", "type"].map(|name| fields.get(name));
    let stretched = kinds.iter().flatten().any(|kind| *kind == "llama3");
    for (name, value) in fields {
        let had = match name.as_str() {
            "rope_theta" => true,
            "rope_type" | "type" => value == if stretched { "llama3" } else { "default" },
            "partial_rotary_factor" => value.as_f64() == Some(1.0),
            "factor" | "low_freq_factor" | "high_freq_factor" | "original_max_position_embeddings" => {
                stretched || value.is_null()
            }
            _ => value.is_null(),
        };
        if !had {
            return Err(format!("`{key}.{name}` is {value}, which this trainer does not have"));
        }
    }
    if !stretched {
        return Ok(None);
    }
    let entry = |name: &str| number(&format!("{key}.{name}"), fields.get(name));
    let scaling = Llama3 {
        factor: entry("factor")?,
        low: entry("low_freq_factor")?,
        high: entry("high_freq_factor")?,
        original: entry("original_max_position_embeddings")?,
    };
    if scaling.low >= scaling.high {
        return Err(format!("`{key}.low_freq_factor` is not below `high_freq_factor`"));
    }
    Ok(Some(scaling))
}

/// A number above 0.
pub(super) fn number(key: &str, value: Option<&Value>) -> Result<f64, String> {
    match value.and_then(Value::as_f64) {
        Some(number) if number.is_finite() && number > 0.0 => Ok(number),
        _ => Err(format!("`{key}` is missing, or not above 0")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_pairs_slow_down_fast_ones_stay_and_the_rest_is_between() {
        let llama = Llama3 { factor: 8.0, low: 1.0, high: 4.0, original: 8192.0 };
        assert_eq!(llama.stretched(1.0), 1.0);
        assert_eq!(llama.stretched(1e-5), 1e-5 / 8.0);
        // Two turns in 8,192 tokens: a third of the way from slow to fast.
        let frequency = 2.0 * 2.0 * std::f32::consts::PI / 8192.0;
        let expected = frequency * (2.0 / 3.0 / 8.0 + 1.0 / 3.0);
        assert!((llama.stretched(frequency) / expected - 1.0).abs() < 1e-6);
    }
}
