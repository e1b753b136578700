//! Cross entropy over the trained rows, in slices of the vocabulary's length, with its gradient written out.
//!
//! Logits are the largest tensor of a small model: 32k rows of Qwen3's vocabulary are 18 GiB in f32. Only rows whose
//! next token is trained reach the head, a thousand at a time, and each slice's gradient is formed on the spot.

use tch::{Kind, Reduction, Tensor, no_grad};

use super::{Model, Segments};
use finch_train::budget::HEAD_ROWS;

/// The head's work on one forward pass.
pub(crate) struct Head {
    /// Rows of logits that are formed together.
    pub(crate) rows: i64,
}

/// A loss.
pub(crate) struct Loss {
    /// Sum of weight times negative log likelihood over the rows, f64, in nats.
    pub(crate) sum: Tensor,
    /// A scalar whose backward pass gives the gradient of `sum / divisor`; its own value means nothing.
    pub(crate) surrogate: Option<Tensor>,
    /// Negative log likelihood of each row, `[R]`, f32, in nats.
    pub(crate) by_row: Tensor,
}

impl Default for Head {
    fn default() -> Self {
        Self { rows: HEAD_ROWS }
    }
}

impl Head {
    /// The loss of hidden states `[T, D]`. With a divisor, also its gradient: that of the sum divided by it, so that
    /// the parts of a step add up to the gradient of the step's mean.
    pub(crate) fn loss(
        &self,
        model: &Model,
        hidden: &Tensor,
        segments: &Segments,
        divisor: Option<f64>,
    ) -> Loss {
        let selected = hidden.index_select(0, &segments.rows);
        let weight = model.head();
        let (states, matrix) = (selected.detach(), weight.detach());
        let count = states.size()[0];
        let mut by_row = Vec::new();
        let mut state_gradients = Vec::new();
        let mut matrix_gradient = divisor.map(|_| Tensor::zeros_like(&matrix).to_kind(Kind::Float));
        no_grad(|| {
            let mut start = 0;
            while start < count {
                let length = self.rows.min(count - start);
                let slice = |x: &Tensor| x.narrow(0, start, length);
                let x = slice(&states);
                let targets = slice(&segments.targets);
                let logs = x.linear(&matrix, None::<Tensor>).to_kind(Kind::Float).log_softmax(-1, None);
                by_row.push(logs.g_nll_loss(&targets, None::<Tensor>, Reduction::None, -100));
                if let (Some(divisor), Some(total)) = (divisor, matrix_gradient.as_mut()) {
                    // d(-log softmax(z)_t)/dz = softmax(z) - onehot(t)
                    let index = targets.unsqueeze(1);
                    let mut d = logs.exp();
                    let _ = d.scatter_add_(1, &index, &Tensor::full_like(&index, -1.0).to_kind(Kind::Float));
                    let _ = d.g_mul_(&(slice(&segments.weights) / divisor).unsqueeze(1));
                    let d = d.to_kind(model.kind);
                    state_gradients.push(d.matmul(&matrix));
                    *total += d.transpose(0, 1).matmul(&x).to_kind(Kind::Float);
                }
                start += length;
            }
        });
        let by_row = if by_row.is_empty() { segments.weights.zeros_like() } else { Tensor::cat(&by_row, 0) };
        let sum = (&by_row * &segments.weights).to_kind(Kind::Double).sum(Kind::Double);
        // The derivative of <x, g> with respect to x is g: a way to hand autograd a gradient that was formed by hand.
        let surrogate = matrix_gradient.filter(|_| count > 0).map(|gradient| {
            let gradient = gradient.to_kind(model.kind);
            (selected * Tensor::cat(&state_gradients, 0)).sum(None) + (weight * gradient).sum(None)
        });
        Loss { sum, surrogate, by_row }
    }
}
