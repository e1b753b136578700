//! Causal attention within each document, with its gradient: no token sees another document, wherever packing put it.
//!
//! Three ways to the same numbers. On CUDA, FlashAttention over all documents at once, told where they end (Dao, arXiv
//! 2307.08691; `_flash_attention_forward` with cumulative lengths), in half precision. On the CPU, libtorch's own fused
//! kernel, a document at a time. Everywhere else, and as the reference, `scaled_dot_product_attention` and what automatic
//! differentiation makes of it.

use std::ops::Range;

use tch::{Kind, Tensor};

use super::Segments;
use super::dispatch::{Argument, call};
use super::reference::wide;
use finch_train::error::{Error, Result};

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// FlashAttention on CUDA, all documents in one call.
    Flash,
    /// The CPU's fused kernel, a document at a time.
    Fused,
    /// Plain attention, a document at a time.
    Plain,
}

/// What attention made, and what its backward pass needs of it.
#[derive(Debug)]
pub(crate) struct Mixed {
    /// `[T, heads, d]`.
    pub(crate) out: Tensor,
    /// Logarithms of the sums of exponentials: one tensor in all, or one a document.
    sums: Vec<Tensor>,
    /// What else FlashAttention wants back.
    state: Vec<Tensor>,
}

impl Path {
    /// The fastest way for tensors of this kind.
    pub(crate) fn of(q: &Tensor) -> Self {
        match (q.device().is_cuda(), q.kind()) {
            // FlashAttention has kernels for these types, and for heads of up to 256 in steps of eight.
            (true, Kind::BFloat16 | Kind::Half) if q.size()[2] <= 256 && q.size()[2] % 8 == 0 => Self::Flash,
            (false, Kind::Float | Kind::BFloat16) => Self::Fused,
            _ => Self::Plain,
        }
    }

    /// Attention of `q` `[T, heads, d]` over `k`, `v` `[T, kv_heads, d]`. Each query head reads the key head of its group
    /// (grouped-query attention); scores are scaled by 1/sqrt(d).
    pub(crate) fn forward(self, q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<Mixed> {
        match self {
            Self::Flash => flash(q, k, v, segments),
            Self::Fused => Ok(fused(q, k, v, segments)),
            Self::Plain => {
                let outs: Vec<Tensor> = documents(segments)
                    .map(|at| plain(&part(q, &at), &part(k, &at), &part(v, &at)))
                    .collect();
                Ok(Mixed { out: Tensor::cat(&outs, 0), sums: vec![], state: vec![] })
            }
        }
    }

    /// The gradients of `q`, `k` and `v`, given that of `mixed.out`.
    pub(crate) fn backward(
        self,
        [q, k, v]: [&Tensor; 3],
        mixed: &Mixed,
        dout: &Tensor,
        segments: &Segments,
    ) -> Result<[Tensor; 3]> {
        match self {
            Self::Flash => flash_backward([q, k, v], mixed, dout, segments),
            Self::Fused => Ok(fused_backward([q, k, v], mixed, dout, segments)),
            Self::Plain => Ok(plain_backward([q, k, v], dout, segments)),
        }
    }
}

fn scale(q: &Tensor) -> f64 {
    (q.size()[2] as f64).sqrt().recip()
}

/// Each document's rows.
fn documents(segments: &Segments) -> impl Iterator<Item = Range<i64>> {
    segments.lengths.iter().scan(0, |end, length| {
        let start = *end;
        *end += length;
        Some(start..*end)
    })
}

fn part(x: &Tensor, rows: &Range<i64>) -> Tensor {
    x.narrow(0, rows.start, rows.end - rows.start)
}

fn flash(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Result<Mixed> {
    let arguments = [
        Argument::Tensor(q),
        Argument::Tensor(k),
        Argument::Tensor(v),
        Argument::MaybeTensor(Some(&segments.ends)),
        Argument::MaybeTensor(Some(&segments.ends)),
        Argument::Int(segments.longest),
        Argument::Int(segments.longest),
        Argument::Float(0.0),
        Argument::Bool(true),
        Argument::Bool(false),
        Argument::MaybeFloat(Some(scale(q))),
        Argument::MaybeInt(None),
        Argument::MaybeInt(None),
        Argument::MaybeTensor(None),
        Argument::MaybeTensor(None),
    ];
    // The output, the sums, the state of the generator, a tensor without use, and a mask for debugging.
    let mut results = call("_flash_attention_forward", &arguments, 5)?.into_iter();
    match (results.next(), results.next(), results.next(), results.next()) {
        (Some(out), Some(sums), Some(generator), Some(unused)) => {
            Ok(Mixed { out, sums: vec![sums], state: vec![generator, unused] })
        }
        _ => Err(Error::Torch("`_flash_attention_forward` has fewer results than its schema".to_owned())),
    }
}

fn flash_backward(
    [q, k, v]: [&Tensor; 3],
    mixed: &Mixed,
    dout: &Tensor,
    segments: &Segments,
) -> Result<[Tensor; 3]> {
    let ([sums], [generator, unused]) = (mixed.sums.as_slice(), mixed.state.as_slice()) else {
        return Err(Error::Torch("FlashAttention's state is of another way to compute attention".to_owned()));
    };
    let (dq, dk, dv) = Tensor::internal_flash_attention_backward(
        dout,
        q,
        k,
        v,
        &mixed.out,
        sums,
        &segments.ends,
        &segments.ends,
        segments.longest,
        segments.longest,
        0.0,
        true,
        generator,
        unused,
        Some(scale(q)),
        None::<i64>,
        None::<i64>,
    );
    Ok([dq, dk, dv])
}

/// A document's heads as the CPU's kernel wants them: `[group, kv_heads, t, d]`, where the heads that read one key head
/// are a batch of their own. Nothing is copied.
fn grouped(x: &Tensor, key_heads: i64) -> Tensor {
    let (t, heads, d) = (x.size()[0], x.size()[1], x.size()[2]);
    x.view([t, key_heads, heads / key_heads, d]).permute([2, 1, 0, 3])
}

/// The same of keys or values, which every group reads: the group's stride is 0.
fn shared(x: &Tensor, groups: i64) -> Tensor {
    let (t, heads, d) = (x.size()[0], x.size()[1], x.size()[2]);
    x.transpose(0, 1).unsqueeze(0).expand([groups, heads, t, d], false)
}

/// Puts a document's groups of heads back in their order, `[t, heads, d]`.
fn ungrouped(x: &Tensor) -> Tensor {
    let size = x.size();
    x.permute([2, 1, 0, 3]).reshape([size[2], size[0] * size[1], size[3]])
}

fn fused(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Mixed {
    let (key_heads, groups) = (k.size()[1], q.size()[1] / k.size()[1]);
    let (mut outs, mut sums) = (Vec::new(), Vec::new());
    for at in documents(segments) {
        let (out, sum) = Tensor::internal_scaled_dot_product_flash_attention_for_cpu(
            &grouped(&part(q, &at), key_heads),
            &shared(&part(k, &at), groups),
            &shared(&part(v, &at), groups),
            0.0,
            true,
            None::<Tensor>,
            Some(scale(q)),
        );
        outs.push(ungrouped(&out));
        sums.push(sum);
    }
    Mixed { out: joined(outs), sums, state: vec![] }
}

fn fused_backward([q, k, v]: [&Tensor; 3], mixed: &Mixed, dout: &Tensor, segments: &Segments) -> [Tensor; 3] {
    let (key_heads, groups) = (k.size()[1], q.size()[1] / k.size()[1]);
    let mut gradients: [Vec<Tensor>; 3] = Default::default();
    for (at, sum) in documents(segments).zip(&mixed.sums) {
        let (dq, dk, dv) = Tensor::internal_scaled_dot_product_flash_attention_for_cpu_backward(
            &grouped(&part(dout, &at), key_heads),
            &grouped(&part(q, &at), key_heads),
            &shared(&part(k, &at), groups),
            &shared(&part(v, &at), groups),
            &grouped(&part(&mixed.out, &at), key_heads),
            sum,
            0.0,
            true,
            None::<Tensor>,
            Some(scale(q)),
        );
        let over_groups = |x: Tensor| match groups {
            1 => x.squeeze_dim(0).transpose(0, 1),
            _ => x.sum_dim_intlist([0i64].as_slice(), false, None).transpose(0, 1),
        };
        for (all, one) in gradients.iter_mut().zip([ungrouped(&dq), over_groups(dk), over_groups(dv)]) {
            all.push(one);
        }
    }
    gradients.map(joined)
}

/// Documents one after the other; one alone is itself.
fn joined(mut parts: Vec<Tensor>) -> Tensor {
    match parts.len() {
        1 => parts.remove(0).contiguous(),
        _ => Tensor::cat(&parts, 0),
    }
}

/// A document's attention by `scaled_dot_product_attention`.
pub(crate) fn plain(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let batched = |x: &Tensor| x.transpose(0, 1).unsqueeze(0);
    let groups = q.size()[1] / k.size()[1];
    // On a card the kernel that makes no matrix of all pairs wants as many key heads as query heads.
    let repeated = groups > 1 && q.device().is_cuda();
    let heads =
        |x: &Tensor| if repeated { x.repeat_interleave_self_int(groups, 1, None) } else { x.shallow_clone() };
    let grouped = groups > 1 && !repeated;
    let (q, k, v) = (batched(q), batched(&heads(k)), batched(&heads(v)));
    Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, true, None, grouped)
        .squeeze_dim(0)
        .transpose(0, 1)
}

fn plain_backward([q, k, v]: [&Tensor; 3], dout: &Tensor, segments: &Segments) -> [Tensor; 3] {
    let mut gradients: [Vec<Tensor>; 3] = Default::default();
    for at in documents(segments) {
        let leaves = [q, k, v].map(|x| part(x, &at).detach().copy().set_requires_grad(true));
        tch::with_grad(|| {
            let out = plain(&leaves[0], &leaves[1], &leaves[2]);
            // The derivative of <out, g> is g: a way to hand automatic differentiation a gradient.
            let product = (out * part(dout, &at)).sum(wide(q.kind()));
            let found = Tensor::run_backward(&[product], &leaves, false, false);
            for (all, one) in gradients.iter_mut().zip(found) {
                all.push(one);
            }
        });
    }
    gradients.map(joined)
}
