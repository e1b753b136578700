//! Cross entropy over the trained rows, in slices, with its gradient written out.
//!
//! Logits are the largest tensor of a small model: 32k rows of Qwen3's vocabulary are 18 GiB in f32. Only rows whose
//! next token is trained reach the head, a thousand at a time, and each slice's gradient is formed on the spot.

use tch::{Kind, Tensor};

use super::parameters::Parameter;
use finch_train::budget::HEAD_ROWS;

/// The head: a matrix whose product with a state is that state's logits.
pub(crate) struct Head {
    /// `[vocabulary, D]`; the embedding, where it is tied.
    pub(crate) weight: Parameter,
    /// Rows of logits that are formed together.
    pub(crate) rows: i64,
}

/// A loss.
pub(crate) struct Loss {
    /// Sum of weight times negative log likelihood over the rows, f64, in nats.
    pub(crate) sum: Tensor,
    /// Negative log likelihood of each row, `[R]`, f32, in nats.
    pub(crate) by_row: Tensor,
    /// The gradient of the states, `[R, D]`, where it was asked for.
    pub(crate) dstates: Option<Tensor>,
}

impl Head {
    /// A head with the usual slices.
    pub(crate) fn new(weight: Parameter) -> Self {
        Self { weight, rows: HEAD_ROWS }
    }

    /// The loss of states `[R, D]` that should predict `targets` `[R]`, each with its weight. With a divisor, also the
    /// gradient: that of the sum divided by it, so that the parts of a step add up to the gradient of the step's mean.
    pub(crate) fn loss(
        &self,
        states: &Tensor,
        targets: &Tensor,
        weights: &Tensor,
        divisor: Option<f64>,
    ) -> Loss {
        let matrix = &self.weight.value;
        let (kind, count) = (states.kind(), states.size()[0]);
        // d(w nll)/dz = w (softmax(z) - onehot(t)), where w holds the divisor.
        let scale = divisor.map(|divisor| (weights / divisor).unsqueeze(1));
        // In f32 it is multiplied where rows are short: into the states, for the matrix, and into their gradient. What is
        // rounded to bf16 must be multiplied before: a second rounding of numbers that differ from rounded ones by one
        // factor goes the same way for all of them.
        let short = scale.as_ref().filter(|_| kind == Kind::Float);
        let inputs = short.filter(|_| self.weight.gradient.is_some()).map(|scale| states * scale);
        let inputs = inputs.as_ref().unwrap_or(states);
        let dstates = divisor.map(|_| states.empty_like());
        // With bf16 weights each slice's product would be rounded before it is added; the sum is kept in f32.
        let summed = divisor.is_some() && self.weight.gradient.is_some() && kind != Kind::Float;
        let mut sum = summed.then(|| Tensor::zeros(matrix.size(), (Kind::Float, matrix.device())));
        let mut by_row = Vec::new();
        let buffers = Buffers::new(self.rows.min(count), matrix, kind);
        let mut start = 0;
        while start < count {
            let length = self.rows.min(count - start);
            let slice = |x: &Tensor| x.narrow(0, start, length);
            let index = slice(targets).unsqueeze(1);
            let logs = buffers.logarithms(&slice(states), matrix);
            let found = logs.gather(1, &index, false);
            by_row.push(found.squeeze_dim(1).neg());
            if let (Some(scale), Some(dstates)) = (&scale, &dstates) {
                let d = buffers.gradient(&index, &found, &slice(scale));
                let _ = d.mm_out(&slice(dstates), matrix);
                match &mut sum {
                    // Products of bf16 matrices have no f32 result on the CPU; on CUDA this one is not worth a branch.
                    Some(sum) => drop(sum.g_add_(&d.transpose(0, 1).mm(&slice(inputs)))),
                    None => self.weight.add_product(&d, &slice(inputs)),
                }
            }
            start += length;
        }
        drop(buffers);
        if let Some(sum) = sum {
            self.weight.add(|| sum.to_kind(kind));
        }
        let dstates = dstates.map(|mut dstates| match short {
            Some(scale) => dstates.g_mul_(scale),
            None => dstates,
        });
        let by_row = if by_row.is_empty() { weights.zeros_like() } else { Tensor::cat(&by_row, 0) };
        let sum = (&by_row * weights).to_kind(Kind::Double).sum(Kind::Double);
        Loss { sum, by_row, dstates }
    }
}

/// Room for one slice, used again by the next: fresh pages of this size cost the CPU as much as a pass over them.
struct Buffers {
    /// Logits, then their logarithms, then the gradient, `[rows, vocabulary]`, f32.
    wide: Tensor,
    /// Logits and later the gradient in the weights' type, where it is not f32.
    narrow: Option<Tensor>,
}

impl Buffers {
    fn new(rows: i64, matrix: &Tensor, kind: Kind) -> Self {
        let room = |kind: Kind| Tensor::empty([rows, matrix.size()[0]], (kind, matrix.device()));
        Self { wide: room(Kind::Float), narrow: (kind != Kind::Float).then(|| room(kind)) }
    }

    /// The logarithms of the probabilities that states give to each token.
    fn logarithms(&self, states: &Tensor, matrix: &Tensor) -> Tensor {
        let length = states.size()[0];
        let logits = self.narrow.as_ref().unwrap_or(&self.wide).narrow(0, 0, length);
        let mut logs = self.wide.narrow(0, 0, length);
        let _ = states.mm_out(&logits, &matrix.transpose(0, 1));
        if self.narrow.is_some() {
            logs.copy_(&logits);
        }
        // In place: the sums of a row are known before any of it is written, and an element is written by whoever reads it.
        let _ = logs.shallow_clone().internal_log_softmax_out(&logs, -1, false);
        logs
    }

    /// The gradient of the logits, where the targets' logarithms are `found`, `[rows, 1]`; the logarithms are gone. It is
    /// multiplied by `scale`, `[rows, 1]`, where it is not f32.
    fn gradient(&self, targets: &Tensor, found: &Tensor, scale: &Tensor) -> Tensor {
        let length = found.size()[0];
        let mut d = self.wide.narrow(0, 0, length);
        let _ = d.exp_();
        // At the target itself, p - 1 without the rounding of p, which is near 1 where the model is sure.
        let _ = d.scatter_(1, targets, &found.expm1());
        match &self.narrow {
            None => d,
            Some(narrow) => {
                let mut narrow = narrow.narrow(0, 0, length);
                if d.device().is_cuda() {
                    return d.mul_out(&narrow, scale);
                }
                // Here the CPU would make a result in f32 first.
                narrow.copy_(&d.g_mul_(scale));
                narrow
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    #[test]
    fn a_divisor_that_bf16_cannot_hold_does_not_shift_every_gradient() {
        tch::manual_seed(5);
        let normal = |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
        let (matrix, states) = (normal([64, 32]), normal([50, 32]));
        let targets = Tensor::arange(50, (Kind::Int64, Device::Cpu));
        let weights = Tensor::ones([50], (Kind::Float, Device::Cpu));
        let norms = |divisor: f64| {
            let gradient = Some(matrix.zeros_like());
            let head = Head::new(Parameter { value: matrix.shallow_clone(), gradient });
            let dstates = head.loss(&states, &targets, &weights, Some(divisor)).dstates;
            let norm = |x: Tensor| x.to_kind(Kind::Double).norm().double_value(&[]);
            [dstates, head.weight.gradient].map(|x| norm(x.expect("a gradient")) * divisor)
        };
        // 1/4096 is a bf16 number, and the nearest one to 1/4088 is off by 2e-3.
        for (exact, rounded) in norms(4096.0).into_iter().zip(norms(4088.0)) {
            assert!((rounded / exact - 1.0).abs() < 1e-3, "{rounded} against {exact}");
        }
    }
}
