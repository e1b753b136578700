//! A layer's self-attention: projections, norms of heads, rotary positions, attention, and the way back.

use tch::Tensor;

use super::attention::{Mixed, Path};
use super::linear::Linear;
use super::norm::Norm;
use super::{Level, Segments};
use finch_train::error::Result;

/// Self-attention's weights.
pub(crate) struct SelfAttention {
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    /// Norms of each head of q and of k, where the model has them.
    pub(crate) head_norms: Option<[Norm; 2]>,
    /// Width of a head.
    pub(crate) head_dim: i64,
    /// A way to compute attention other than the fastest, for comparisons.
    pub(crate) path: Option<Path>,
}

/// What the backward pass needs of self-attention. q, k and v are as projected, `[T, heads, d]`.
#[derive(Debug)]
pub(crate) struct Kept {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// r of the heads' norms.
    r: Option<[Tensor; 2]>,
    mixed: Mixed,
    /// q and k normed and rotated; computed again when they are not kept.
    turned: Option<[Tensor; 2]>,
}

impl SelfAttention {
    /// Mixed rows before the last projection, `[T, heads * d]`, of normed rows `h` `[T, D]`; and what is kept.
    pub(crate) fn forward(
        &self,
        h: &Tensor,
        segments: &Segments,
        level: Option<Level>,
    ) -> Result<(Tensor, Option<Kept>)> {
        let heads = |linear: &Linear| {
            let projected = linear.forward(h);
            projected.view([projected.size()[0], -1, self.head_dim])
        };
        let (q, k, v) = (heads(&self.q), heads(&self.k), heads(&self.v));
        let (turned, r) = self.turned([&q, &k], segments);
        let path = self.path.unwrap_or_else(|| Path::of(&q));
        let mixed = path.forward(&turned[0], &turned[1], &v, segments)?;
        let out = mixed.out.view([h.size()[0], -1]);
        let kept = level.filter(|level| *level != Level::Inputs).map(|level| Kept {
            q,
            k,
            v,
            r,
            mixed,
            turned: (level == Level::Everything).then_some(turned),
        });
        Ok((out, kept))
    }

    /// q and k normed and rotated, and r of their norms.
    fn turned(&self, [q, k]: [&Tensor; 2], segments: &Segments) -> ([Tensor; 2], Option<[Tensor; 2]>) {
        match &self.head_norms {
            None => ([segments.rotate(q), segments.rotate(k)], None),
            Some([q_norm, k_norm]) => {
                let ((q, q_r), (k, k_r)) = (q_norm.forward(q), k_norm.forward(k));
                ([segments.rotate(&q), segments.rotate(&k)], Some([q_r, k_r]))
            }
        }
    }

    /// q and k normed and rotated again.
    fn turned_again(&self, kept: &Kept, segments: &Segments) -> [Tensor; 2] {
        match (&self.head_norms, &kept.r) {
            (Some([q_norm, k_norm]), Some([q_r, k_r])) => {
                [segments.rotate(&q_norm.again(&kept.q, q_r)), segments.rotate(&k_norm.again(&kept.k, k_r))]
            }
            _ => [segments.rotate(&kept.q), segments.rotate(&kept.k)],
        }
    }

    /// The gradient of `h`, given that of the mixed rows.
    pub(crate) fn backward(
        &self,
        mut kept: Kept,
        h: &Tensor,
        dout: &Tensor,
        segments: &Segments,
    ) -> Result<Tensor> {
        let [q, k] = kept.turned.take().unwrap_or_else(|| self.turned_again(&kept, segments));
        let path = self.path.unwrap_or_else(|| Path::of(&q));
        let dout = dout.view_as(&kept.mixed.out);
        let [mut dq, mut dk, dv] = path.backward([&q, &k, &kept.v], &kept.mixed, &dout, segments)?;
        drop((q, k));
        dq = segments.rotate_back(&dq);
        dk = segments.rotate_back(&dk);
        if let (Some([q_norm, k_norm]), Some([q_r, k_r])) = (&self.head_norms, &kept.r) {
            dq = q_norm.backward(&kept.q, q_r, &dq)?;
            dk = k_norm.backward(&kept.k, k_r, &dk)?;
        }
        drop(kept);
        let rows = h.size()[0];
        let flat = |x: &Tensor| x.reshape([rows, -1]);
        let dh = self.q.backward(h, &flat(&dq), None);
        let dh = self.k.backward(h, &flat(&dk), Some(dh));
        Ok(self.v.backward(h, &flat(&dv), Some(dh)))
    }
}
