//! RMS norm with its gradient (Zhang and Sennrich, arXiv 1910.07467).
//!
//! With r = 1/sqrt(mean(x^2) + eps): y = w r x. Its gradient, with n the width:
//! dx = r w dy - x r^3 sum(w dy x) / n, and dw = sum over rows of r dy x. On CUDA libtorch has both fused; on the CPU they
//! are written out, in f32 whatever the type.

use tch::{Kind, Tensor};

use super::dispatch::{Argument, call};
use super::parameters::Parameter;
use finch_train::error::Result;

/// A norm over the last dimension.
pub(crate) struct Norm {
    /// `[width]`.
    pub(crate) weight: Parameter,
    /// Added to the mean square.
    pub(crate) epsilon: f64,
}

impl Norm {
    /// The normed rows, and r of each row, f32, `[..., 1]`.
    pub(crate) fn forward(&self, x: &Tensor) -> (Tensor, Tensor) {
        let weight = &self.weight.value;
        if x.device().is_cuda() {
            return x.internal_fused_rms_norm(weight.size(), Some(weight), self.epsilon);
        }
        let wide = x.to_kind(Kind::Float);
        let length = wide.norm_scalaropt_dim(2.0, [-1i64].as_slice(), true);
        let mut r = length.square() / weight.size()[0] as f64;
        let _ = r.g_add_scalar_(self.epsilon);
        let _ = r.rsqrt_();
        (self.scaled(&wide, &r).to_kind(x.kind()), r)
    }

    /// The normed rows again, from r.
    pub(crate) fn again(&self, x: &Tensor, r: &Tensor) -> Tensor {
        if x.device().is_cuda() {
            return self.forward(x).0;
        }
        self.scaled(&x.to_kind(Kind::Float), r).to_kind(x.kind())
    }

    fn scaled(&self, wide: &Tensor, r: &Tensor) -> Tensor {
        (wide * r).g_mul_(&self.weight.value.to_kind(Kind::Float))
    }

    /// The gradient of `x`, given that of the normed rows; that of the weight is added up.
    pub(crate) fn backward(&self, x: &Tensor, r: &Tensor, dy: &Tensor) -> Result<Tensor> {
        let weight = &self.weight.value;
        let width = weight.size();
        if x.device().is_cuda() {
            let trained = self.weight.gradient.is_some();
            let arguments = [
                Argument::Tensor(dy),
                Argument::Tensor(x),
                Argument::Ints(&width),
                Argument::Tensor(r),
                Argument::MaybeTensor(Some(weight)),
                Argument::Bools(&[true, trained]),
            ];
            let mut both = call("_fused_rms_norm_backward", &arguments, 2)?.into_iter();
            let (Some(dx), Some(dw)) = (both.next(), both.next()) else { return Ok(dy.zeros_like()) };
            self.weight.add(|| dw);
            return Ok(dx);
        }
        let (wide, dy) = (x.to_kind(Kind::Float), dy.to_kind(Kind::Float));
        let product = &wide * &dy;
        // Sums over rows and over a row are both products with a vector.
        self.weight.add(|| product.reshape([-1, width[0]]).tr().mv(&r.reshape([-1])).to_kind(weight.kind()));
        let weight = weight.to_kind(Kind::Float);
        let share = product.matmul(&weight).unsqueeze(-1) * r.pow_tensor_scalar(3) / -(width[0] as f64);
        drop(product);
        let mut dx = dy * weight;
        let _ = dx.g_mul_(r);
        let _ = dx.addcmul_(&wide, &share);
        Ok(dx.to_kind(x.kind()))
    }
}
