//! A layer's gated MLP, and the way back (Shazeer, arXiv 2002.05202: SwiGLU).

use tch::Tensor;

use super::Level;
use super::linear::Linear;

/// The MLP's weights: `down(silu(gate(h)) * up(h))`.
pub(crate) struct Mlp {
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// What the backward pass needs of the MLP.
#[derive(Debug)]
pub(crate) struct Kept {
    gate: Tensor,
    up: Tensor,
    /// What is projected down; computed again when it is not kept.
    gated: Option<Tensor>,
}

impl Mlp {
    /// The MLP of normed rows `h` `[T, D]`, and what is kept.
    pub(crate) fn forward(&self, h: &Tensor, level: Option<Level>) -> (Tensor, Option<Kept>) {
        let (gate, up) = (self.gate.forward(h), self.up.forward(h));
        let gated = gate.silu().g_mul_(&up);
        let y = self.down.forward(&gated);
        let kept = level.filter(|level| *level != Level::Inputs).map(|level| Kept {
            gate,
            up,
            gated: (level == Level::Everything).then_some(gated),
        });
        (y, kept)
    }

    /// What the backward pass needs, without the MLP's output, which it does not.
    pub(crate) fn again(&self, h: &Tensor) -> Kept {
        let (gate, up) = (self.gate.forward(h), self.up.forward(h));
        let gated = Some(gate.silu().g_mul_(&up));
        Kept { gate, up, gated }
    }

    /// The gradient of `h`, given that of the MLP's output.
    pub(crate) fn backward(&self, kept: Kept, h: &Tensor, dy: &Tensor) -> Tensor {
        let Kept { gate, up, gated } = kept;
        let mut lit = gate.silu();
        let gated = gated.unwrap_or_else(|| &lit * &up);
        let mut d = self.down.backward(&gated, dy, None);
        drop(gated);
        let dup = lit.g_mul_(&d);
        let dgate = gate.silu_backward(&d.g_mul_(&up));
        drop((gate, up, d));
        let dh = self.gate.backward(h, &dgate, None);
        drop(dgate);
        self.up.backward(h, &dup, Some(dh))
    }
}
