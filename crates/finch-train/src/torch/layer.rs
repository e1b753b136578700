//! A decoder layer with its gradient written out, and what it keeps for it.
//!
//! `x2 = x + mix(norm(x))`, `y = x2 + mlp(norm(x2))`. Nothing here is recorded by automatic differentiation: the way
//! back reads what the way forward kept, and computes the rest again, so that memory is spent where it saves the most
//! work (see [`Level`]). `reference.rs` has the same layer by automatic differentiation, which tests and `finch-train
//! check` compare with.

use tch::Tensor;

use super::mlp::{self, Mlp};
use super::norm::Norm;
use super::self_attention::{self, SelfAttention};
use super::{Level, Segments};
use finch_train::error::Result;

/// How a layer mixes tokens: attention, or what a hybrid model has in some layers instead.
pub(crate) enum Mixer {
    /// Softmax attention over the document.
    Attention(SelfAttention),
}

/// A layer's weights.
pub(crate) struct Layer {
    pub(crate) input_norm: Norm,
    pub(crate) mixer: Mixer,
    pub(crate) post_norm: Norm,
    pub(crate) mlp: Mlp,
}

/// What the backward pass needs of a layer.
pub(crate) struct Kept {
    /// The layer's input, `[T, D]`.
    x: Tensor,
    /// The rest; computed again when it is not kept.
    inside: Option<Inside>,
}

/// What a layer computes on its way.
struct Inside {
    /// r of the first norm.
    input_r: Tensor,
    /// The first norm's rows; computed again when they are not kept.
    h: Option<Tensor>,
    mixer: self_attention::Kept,
    /// What the mixer made, before its last projection, of the rows that go on: `[R, width]`.
    mixed: Tensor,
    /// The stream after the mixer, `[R, D]`.
    x2: Tensor,
    /// r of the second norm.
    post_r: Tensor,
    /// The second norm's rows.
    h2: Option<Tensor>,
    mlp: mlp::Kept,
}

/// A layer up to its second norm; names are those of [`Inside`].
struct Half {
    h: Tensor,
    input_r: Tensor,
    mixed: Tensor,
    mixer: Option<self_attention::Kept>,
    x2: Tensor,
    h2: Tensor,
    post_r: Tensor,
}

impl Layer {
    /// The layer's output for its input `x` `[T, D]`; and with a level, what is kept. With `only`, just these rows go on
    /// after tokens were mixed, `[R, D]`: nothing reads the others' output.
    pub(crate) fn forward(
        &self,
        x: &Tensor,
        segments: &Segments,
        only: Option<&Tensor>,
        level: Option<Level>,
    ) -> Result<(Tensor, Option<Kept>)> {
        let Half { h, input_r, mixed, mixer, x2, h2, post_r } = self.half(x, segments, only, level)?;
        let (mut y, mlp) = self.mlp.forward(&h2, level);
        let _ = y.g_add_(&x2);
        let everything = level == Some(Level::Everything);
        let inside = mixer.zip(mlp).map(|(mixer, mlp)| Inside {
            input_r,
            h: everything.then_some(h),
            mixer,
            mixed,
            x2,
            post_r,
            h2: everything.then_some(h2),
            mlp,
        });
        Ok((y, level.map(|_| Kept { x: x.shallow_clone(), inside })))
    }

    /// Everything that the backward pass reads, from the layer's input alone; the output is not computed again.
    fn again(&self, x: &Tensor, segments: &Segments, only: Option<&Tensor>) -> Result<Option<Inside>> {
        let half = self.half(x, segments, only, Some(Level::Everything))?;
        let Half { h, input_r, mixed, mixer, x2, h2, post_r } = half;
        let mlp = self.mlp.again(&h2);
        Ok(mixer.map(|mixer| Inside { input_r, h: Some(h), mixer, mixed, x2, post_r, h2: Some(h2), mlp }))
    }

    /// The layer up to the second norm.
    fn half(
        &self,
        x: &Tensor,
        segments: &Segments,
        only: Option<&Tensor>,
        level: Option<Level>,
    ) -> Result<Half> {
        let chosen = |x: &Tensor| only.map_or_else(|| x.shallow_clone(), |rows| x.index_select(0, rows));
        let (h, input_r) = self.input_norm.forward(x);
        let Mixer::Attention(attention) = &self.mixer;
        let (mixed, mixer) = attention.forward(&h, segments, level)?;
        let mixed = chosen(&mixed);
        let mut x2 = attention.o.forward(&mixed);
        let _ = x2.g_add_(&chosen(x));
        let (h2, post_r) = self.post_norm.forward(&x2);
        Ok(Half { h, input_r, mixed, mixer, x2, h2, post_r })
    }

    /// The gradient of the layer's input, given that of its output; gradients of weights are added up.
    pub(crate) fn backward(
        &self,
        kept: Kept,
        dy: Tensor,
        segments: &Segments,
        only: Option<&Tensor>,
    ) -> Result<Tensor> {
        let Kept { x, inside } = kept;
        let inside = match inside {
            Some(inside) => inside,
            None => match self.again(&x, segments, only)? {
                Some(inside) => inside,
                None => return Ok(dy),
            },
        };
        let Inside { input_r, h, mixer, mixed, x2, post_r, h2, mlp } = inside;
        let h2 = h2.unwrap_or_else(|| self.post_norm.again(&x2, &post_r));
        let dh2 = self.mlp.backward(mlp, &h2, &dy);
        drop(h2);
        let mut dx2 = self.post_norm.backward(&x2, &post_r, &dh2)?;
        drop((dh2, x2));
        let _ = dx2.g_add_(&dy);
        drop(dy);
        let Mixer::Attention(attention) = &self.mixer;
        let dmixed = attention.o.backward(&mixed, &dx2, None);
        drop(mixed);
        // The rows that did not go on have no gradient from here.
        let spread = |d: Tensor| match only {
            None => d,
            Some(rows) => {
                let mut all = Tensor::zeros([x.size()[0], d.size()[1]], (d.kind(), d.device()));
                all.index_copy_(0, rows, &d)
            }
        };
        let (dmixed, dx2) = (spread(dmixed), spread(dx2));
        let h = h.unwrap_or_else(|| self.input_norm.again(&x, &input_r));
        let dh = attention.backward(mixer, &h, &dmixed, segments)?;
        drop((dmixed, h));
        let mut dx = self.input_norm.backward(&x, &input_r, &dh)?;
        let _ = dx.g_add_(&dx2);
        Ok(dx)
    }
}
