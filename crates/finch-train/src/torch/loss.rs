//! Cross entropy over the trained rows, in slices, with its gradient written out.
//!
//! Logits are the largest tensor of a small model: 32k rows of Qwen3's vocabulary are 18 GiB in f32. Only rows whose
//! next token is trained reach the head, a thousand at a time, and each slice's gradient is formed on the spot.

use tch::{Kind, Reduction, Tensor};

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
        let mut by_row = Vec::new();
        let dstates = divisor.map(|_| states.empty_like());
        // With bf16 weights each slice's product would be rounded before it is added; the sum is kept in f32.
        let wide = divisor.is_some() && self.weight.gradient.is_some() && kind != Kind::Float;
        let mut sum = wide.then(|| Tensor::zeros(matrix.size(), (Kind::Float, matrix.device())));
        let mut start = 0;
        while start < count {
            let length = self.rows.min(count - start);
            let slice = |x: &Tensor| x.narrow(0, start, length);
            let (x, targets) = (slice(states), slice(targets));
            let logs = x.linear(matrix, None::<Tensor>).to_kind(Kind::Float).log_softmax(-1, None);
            by_row.push(logs.g_nll_loss(&targets, None::<Tensor>, Reduction::None, -100));
            if let (Some(divisor), Some(dstates)) = (divisor, &dstates) {
                // d(-log softmax(z)_t)/dz = softmax(z) - onehot(t)
                let mut d = logs;
                let _ = d.exp_();
                let index = targets.unsqueeze(1);
                let _ =
                    d.scatter_add_(1, &index, &Tensor::full([length, 1], -1.0, (Kind::Float, d.device())));
                let _ = d.g_mul_(&(slice(weights) / divisor).unsqueeze(1));
                let d = d.to_kind(kind);
                let _ = d.mm_out(&slice(dstates), matrix);
                match &mut sum {
                    // Products of bf16 matrices have no f32 result on the CPU; on CUDA this one is not worth a branch.
                    Some(sum) => drop(sum.g_add_(&d.transpose(0, 1).mm(&x))),
                    None => self.weight.add_product(&d, &x),
                }
            }
            start += length;
        }
        if let Some(sum) = sum {
            self.weight.add(|| sum.to_kind(kind));
        }
        let by_row = if by_row.is_empty() { weights.zeros_like() } else { Tensor::cat(&by_row, 0) };
        let sum = (&by_row * weights).to_kind(Kind::Double).sum(Kind::Double);
        Loss { sum, by_row, dstates }
    }
}
