//! A model's weights, and where their gradients add up: what is trained lies in one flat buffer, its gradient in
//! another, and each weight is a view of both.
//!
//! So an update, a norm and a zeroing are a few operations over long vectors, whatever the number of weights, and a
//! gradient is added by the matrix product that forms it. Weights that decay come first, then the others; between
//! weights there may be padding, which is zero and stays so.

use std::collections::HashMap;
use std::ops::Range;

use tch::{Device, Kind, Tensor};

use finch_train::architecture::{TensorSpec, decays};
use finch_train::error::{Error, Result};

/// Weights begin at multiples of so many elements: 128 bytes of bf16, which vector instructions and matrix products of
/// every device are happy with.
const ALIGNED: i64 = 64;

/// A weight in its place.
#[derive(Debug)]
pub(crate) struct Parameter {
    /// The weight.
    pub(crate) value: Tensor,
    /// Where its gradient adds up; none when it is frozen.
    pub(crate) gradient: Option<Tensor>,
}

impl Parameter {
    /// Adds the gradient of a matrix product: `left^T right`, where the weight is `[left's width, right's width]`.
    pub(crate) fn add_product(&self, left: &Tensor, right: &Tensor) {
        if let Some(gradient) = &self.gradient {
            let _ = gradient.shallow_clone().addmm_(&left.transpose(0, 1), right);
        }
    }

    /// Adds a gradient; nothing is computed for a frozen weight.
    pub(crate) fn add(&self, gradient: impl FnOnce() -> Tensor) {
        if let Some(sum) = &self.gradient {
            let _ = sum.shallow_clone().g_add_(&gradient());
        }
    }
}

impl Clone for Parameter {
    /// Another handle to the same weight.
    fn clone(&self) -> Self {
        Self {
            value: self.value.shallow_clone(),
            gradient: self.gradient.as_ref().map(Tensor::shallow_clone),
        }
    }
}

/// A trained weight's name and its range in the flat buffers.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) range: Range<i64>,
    shape: Vec<i64>,
}

/// Everything that is trained.
pub(crate) struct Parameters {
    /// Every weight, `[n]`.
    pub(crate) weights: Tensor,
    /// Every gradient, `[n]`, of the same type.
    pub(crate) gradients: Tensor,
    /// Where weights that decay end, and the others begin.
    pub(crate) decayed: i64,
    /// The weights in the order of the forward pass.
    pub(crate) entries: Vec<Entry>,
    places: HashMap<String, usize>,
}

impl Parameters {
    /// Room for weights of these shapes, all zero.
    pub(crate) fn new(specs: &[TensorSpec], kind: Kind, device: Device) -> Self {
        let mut ranges = vec![0..0; specs.len()];
        let mut end = 0;
        let mut decayed = 0;
        for decaying in [true, false] {
            for (spec, range) in
                specs.iter().zip(&mut ranges).filter(|(spec, _)| decays(&spec.shape) == decaying)
            {
                let size = spec.numel() as i64;
                *range = end..end + size;
                end += (size + ALIGNED - 1) / ALIGNED * ALIGNED;
            }
            if decaying {
                decayed = end;
            }
        }
        let zeros = || Tensor::zeros([end], (kind, device));
        let entries: Vec<Entry> = specs
            .iter()
            .zip(ranges)
            .map(|(spec, range)| Entry { name: spec.name.clone(), range, shape: spec.shape.clone() })
            .collect();
        let places = entries.iter().enumerate().map(|(place, entry)| (entry.name.clone(), place)).collect();
        Self { weights: zeros(), gradients: zeros(), decayed, entries, places }
    }

    /// A weight in its place.
    pub(crate) fn parameter(&self, name: &str) -> Result<Parameter> {
        let entry = self.places.get(name).map(|&place| &self.entries[place]);
        let entry = entry.ok_or_else(|| Error::Torch(format!("the model has no weight `{name}`")))?;
        Ok(Parameter { value: entry.view(&self.weights), gradient: Some(entry.view(&self.gradients)) })
    }

    /// Every weight's part of a flat buffer, by name, in the order of the forward pass.
    pub(crate) fn named<'a>(&'a self, flat: &'a Tensor) -> impl Iterator<Item = (String, Tensor)> + 'a {
        self.entries.iter().map(|entry| (entry.name.clone(), entry.view(flat)))
    }

    /// Forgets the gradient.
    pub(crate) fn zero_gradients(&self) {
        let _ = self.gradients.shallow_clone().zero_();
    }
}

impl Entry {
    /// The weight's part of a flat buffer, in its shape.
    fn view(&self, flat: &Tensor) -> Tensor {
        flat.narrow(0, self.range.start, self.range.end - self.range.start).view(self.shape.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_views_that_neither_overlap_nor_mix_what_decays_with_what_does_not() {
        let spec = |name: &str, shape: &[i64]| TensorSpec { name: name.to_owned(), shape: shape.to_vec() };
        let specs = [spec("norm", &[3]), spec("a", &[5, 7]), spec("bias", &[70]), spec("b", &[2, 2])];
        let parameters = Parameters::new(&specs, Kind::Float, Device::Cpu);
        for spec in &specs {
            let parameter = parameters.parameter(&spec.name).expect("there");
            assert_eq!(parameter.value.size(), spec.shape);
            let _ = parameter.value.shallow_clone().g_add_scalar_(1.0);
        }
        assert!(parameters.parameter("c").is_err());
        let total: f64 = parameters.weights.sum(Kind::Double).double_value(&[]);
        assert_eq!(total, 3.0 + 35.0 + 70.0 + 4.0, "each element belongs to one weight");
        for entry in &parameters.entries {
            assert_eq!(
                entry.range.end <= parameters.decayed,
                ["a", "b"].contains(&entry.name.as_str()),
                "{}",
                entry.name
            );
            assert_eq!(entry.range.start % ALIGNED, 0);
        }
    }
}
