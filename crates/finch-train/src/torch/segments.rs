//! A sequence on the device: token ids, documents' lengths, rotary angles by position within a document.

use tch::{Device, Kind, Tensor};

use finch_train::architecture::Architecture;
use finch_train::sequence::Sequence;

/// What a forward pass reads, the same for every layer. T is the number of tokens.
pub(crate) struct Segments {
    /// Token ids, `[T]`.
    pub(crate) ids: Tensor,
    /// Length of each document.
    pub(crate) lengths: Vec<i64>,
    /// Cosines of the rotary angles, [T, 1, head_dim].
    pub(crate) cos: Tensor,
    /// Sines of the rotary angles, [T, 1, head_dim].
    pub(crate) sin: Tensor,
    /// Rows whose next token is trained, `[R]`.
    pub(crate) rows: Tensor,
    /// These next tokens, `[R]`.
    pub(crate) targets: Tensor,
    /// The weights of these rows, `[R]`, f32.
    pub(crate) weights: Tensor,
}

impl Segments {
    /// Puts a sequence on a device. Angles are computed in f32 and rounded to `kind`, as `transformers` does.
    pub(crate) fn new(sequence: &Sequence, shape: &Architecture, device: Device, kind: Kind) -> Self {
        let float = (Kind::Float, Device::Cpu);
        let exponents = Tensor::arange_start_step(0, shape.head_dim, 2, float) / shape.head_dim as f64;
        let frequencies = Tensor::pow_scalar(shape.rope_theta, &exponents).reciprocal();
        let positions = Tensor::from_slice(&sequence.positions()).to_kind(Kind::Float);
        let half = positions.outer(&frequencies);
        let angles = Tensor::cat(&[&half, &half], 1).unsqueeze(1);
        let put = |tensor: Tensor| tensor.to_kind(kind).to_device(device);
        let integers = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Self {
            ids: integers(&sequence.ids),
            lengths: sequence.lengths.clone(),
            cos: put(angles.cos()),
            sin: put(angles.sin()),
            rows: integers(&sequence.rows),
            targets: integers(&sequence.targets),
            weights: Tensor::from_slice(&sequence.weights).to_device(device),
        }
    }

    /// Rotates the two halves of each head by its position's angle. `heads` is `[T, heads, head_dim]`.
    pub(crate) fn rotate(&self, heads: &Tensor) -> Tensor {
        let halves = heads.chunk(2, -1);
        let turned = Tensor::cat(&[&halves[1].neg(), &halves[0]], -1);
        heads * &self.cos + turned * &self.sin
    }
}
