//! A sequence on the device: token ids, documents' ends, rotary angles by position within a document.

use tch::{Device, Kind, Tensor};

use finch_train::architecture::Architecture;
use finch_train::sequence::Sequence;

/// What a forward pass reads, the same for every layer. T is the number of tokens, R that of rows whose next token is
/// trained.
pub(crate) struct Segments {
    /// Token ids, `[T]`.
    pub(crate) ids: Tensor,
    /// Length of each document.
    pub(crate) lengths: Vec<i64>,
    /// 0, then the end of each document, `[documents + 1]`, int32.
    pub(crate) ends: Tensor,
    /// The longest document.
    pub(crate) longest: i64,
    /// Each distinct token id, ascending.
    distinct: Tensor,
    /// The place of each token among the distinct ones, `[T]`.
    places: Tensor,
    /// Cosines of the rotary angles, `[T, 1, d / 2]`.
    cos: Tensor,
    /// Sines of the rotary angles, `[T, 1, d / 2]`.
    sin: Tensor,
    /// Rows whose next token is trained, `[R]`, ascending.
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
        let mut frequencies = Tensor::pow_scalar(shape.rope.theta, &exponents).reciprocal();
        if let Some(scaling) = &shape.rope.scaling {
            let plain: Vec<f32> =
                (0..shape.head_dim / 2).map(|i| frequencies.double_value(&[i]) as f32).collect();
            let stretched: Vec<f32> =
                plain.into_iter().map(|frequency| scaling.stretched(frequency)).collect();
            frequencies = Tensor::from_slice(&stretched);
        }
        let positions = Tensor::from_slice(&sequence.positions()).to_kind(Kind::Float);
        let angles = positions.outer(&frequencies).unsqueeze(1);
        let put = |tensor: Tensor| tensor.to_kind(kind).to_device(device);
        let integers = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let mut distinct = sequence.ids.clone();
        distinct.sort_unstable();
        distinct.dedup();
        let place = |id: &i64| distinct.partition_point(|known| known < id) as i64;
        let places: Vec<i64> = sequence.ids.iter().map(place).collect();
        Self {
            ids: integers(&sequence.ids),
            lengths: sequence.lengths.clone(),
            ends: ends(&sequence.lengths).to_device(device),
            longest: sequence.lengths.iter().copied().max().unwrap_or(0),
            distinct: integers(&distinct),
            places: integers(&places),
            cos: put(angles.cos()),
            sin: put(angles.sin()),
            rows: integers(&sequence.rows),
            targets: integers(&sequence.targets),
            weights: Tensor::from_slice(&sequence.weights).to_device(device),
        }
    }

    /// Documents of these lengths without tokens, for attention alone.
    pub(crate) fn of_lengths(lengths: &[i64], device: Device) -> Self {
        let none = || Tensor::zeros([0], (Kind::Int64, device));
        Self {
            ids: none(),
            lengths: lengths.to_vec(),
            ends: ends(lengths).to_device(device),
            longest: lengths.iter().copied().max().unwrap_or(0),
            distinct: none(),
            places: none(),
            cos: none(),
            sin: none(),
            rows: none(),
            targets: none(),
            weights: none(),
        }
    }

    /// Rotates the two halves of each head by its position's angle. `heads` is `[T, heads, d]`.
    pub(crate) fn rotate(&self, heads: &Tensor) -> Tensor {
        self.turn(heads, 1.0)
    }

    /// The gradient of [`Self::rotate`]'s argument, given that of its result: the rotation back.
    pub(crate) fn rotate_back(&self, heads: &Tensor) -> Tensor {
        self.turn(heads, -1.0)
    }

    /// Cosines and sines of the angles, each `[T, 1, d / 2]`.
    pub(crate) fn angles(&self) -> (Tensor, Tensor) {
        (self.cos.shallow_clone(), self.sin.shallow_clone())
    }

    fn turn(&self, heads: &Tensor, direction: f64) -> Tensor {
        let half = heads.size()[2] / 2;
        let (first, second) = (heads.narrow(2, 0, half), heads.narrow(2, half, half));
        let turned = Tensor::empty_like(heads);
        let sin = if direction > 0.0 { self.sin.shallow_clone() } else { self.sin.neg() };
        let (mut left, mut right) = (turned.narrow(2, 0, half), turned.narrow(2, half, half));
        let _ = first.mul_out(&left, &self.cos);
        let _ = left.addcmul_(&second, &sin.neg());
        let _ = second.mul_out(&right, &self.cos);
        let _ = right.addcmul_(&first, &sin);
        turned
    }

    /// Adds rows' gradients to those of the embedding's rows that they came from. Equal tokens are summed first, so that
    /// each row of the embedding is touched once: the sum is rounded once, and is the same every time.
    pub(crate) fn add_to_embedding(&self, embedding: &Tensor, dx: &Tensor) {
        // On the CPU libtorch adds up in the type of the rows; on CUDA in f32 by itself.
        let wide = if dx.device().is_cuda() { dx.shallow_clone() } else { dx.to_kind(Kind::Float) };
        let count = self.distinct.size()[0];
        let summed = Tensor::embedding_dense_backward(&wide, &self.places, count, -1, false);
        let _ = embedding.shallow_clone().index_add_(0, &self.distinct, &summed.to_kind(embedding.kind()));
    }
}

/// 0, then the end of each document, int32.
fn ends(lengths: &[i64]) -> Tensor {
    let mut ends = vec![0i32];
    let mut end = 0;
    for length in lengths {
        end += *length as i32;
        ends.push(end);
    }
    Tensor::from_slice(&ends)
}
