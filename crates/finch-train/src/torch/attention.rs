//! Causal attention within each document: no token sees another document, wherever packing put it.

use tch::Tensor;

use super::Segments;

/// Attention of `q` `[T, heads, d]` over `k`, `v` `[T, kv_heads, d]`, document by document; `[T, heads * d]`.
///
/// Each query head reads the key head of its group (grouped-query attention); scores are scaled by 1/sqrt(d).
pub(crate) fn attend(q: &Tensor, k: &Tensor, v: &Tensor, segments: &Segments) -> Tensor {
    let (tokens, heads, width) = (q.size()[0], q.size()[1], q.size()[2]);
    // split_with_sizes has one backward for all parts; narrow would allocate a full gradient for each document.
    let parts = |x: &Tensor| x.split_with_sizes(&segments.lengths, 0);
    let outputs: Vec<Tensor> = parts(q)
        .iter()
        .zip(parts(k).iter().zip(parts(v)))
        .map(|(q, (k, v))| {
            let batched = |x: &Tensor| x.transpose(0, 1).unsqueeze(0);
            let grouped = q.size()[1] != k.size()[1];
            Tensor::scaled_dot_product_attention(
                &batched(q),
                &batched(k),
                &batched(&v),
                None::<Tensor>,
                0.0,
                true,
                None,
                grouped,
            )
            .squeeze_dim(0)
            .transpose(0, 1)
        })
        .collect();
    Tensor::cat(&outputs, 0).reshape([tokens, heads * width])
}
