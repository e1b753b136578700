//! A linear map with its gradient: a matrix, perhaps a bias, perhaps an adapter of low rank beside them.

use tch::Tensor;

use super::parameters::Parameter;

/// `y = x W^T + b`, and with an adapter `+ scale x A^T B^T`.
pub(crate) struct Linear {
    /// `[outputs, inputs]`.
    pub(crate) weight: Parameter,
    /// `[outputs]`.
    pub(crate) bias: Option<Parameter>,
    /// What is trained beside a frozen matrix.
    pub(crate) adapter: Option<Adapter>,
}

/// Two matrices whose product is added to a frozen one (Hu et al., arXiv 2106.09685).
pub(crate) struct Adapter {
    /// `[rank, inputs]`.
    pub(crate) a: Parameter,
    /// `[outputs, rank]`.
    pub(crate) b: Parameter,
    /// `alpha / rank`.
    pub(crate) scale: f64,
}

impl Linear {
    /// The map of rows: `x` is `[T, inputs]`, the result `[T, outputs]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let mut y = x.linear(&self.weight.value, self.bias.as_ref().map(|bias| &bias.value));
        if let Some(adapter) = &self.adapter {
            let _ = y.addmm_(&adapter.narrowed(x), &adapter.b.value.transpose(0, 1));
        }
        y
    }

    /// The gradient of `x`, given that of `y`; those of the weights are added up. With `into`, it is added to that, which
    /// comes back.
    pub(crate) fn backward(&self, x: &Tensor, dy: &Tensor, into: Option<Tensor>) -> Tensor {
        self.weight.add_product(dy, x);
        if let Some(bias) = &self.bias {
            bias.add(|| dy.sum_dim_intlist([0i64].as_slice(), false, None));
        }
        let mut dx = match into {
            Some(mut sum) => sum.addmm_(dy, &self.weight.value),
            None => dy.mm(&self.weight.value),
        };
        if let Some(adapter) = &self.adapter {
            adapter.b.add_product(dy, &adapter.narrowed(x));
            let narrow = dy.mm(&adapter.b.value) * adapter.scale;
            adapter.a.add_product(&narrow, x);
            let _ = dx.addmm_(&narrow, &adapter.a.value);
        }
        dx
    }
}

impl Adapter {
    /// `scale x A^T`, `[T, rank]`.
    fn narrowed(&self, x: &Tensor) -> Tensor {
        x.linear(&self.a.value, None::<Tensor>) * self.scale
    }

    /// What merging adds to the matrix, `[outputs, inputs]`, in f32.
    pub(crate) fn product(&self) -> Tensor {
        let wide = |parameter: &Parameter| parameter.value.to_kind(tch::Kind::Float);
        wide(&self.b).mm(&wide(&self.a)) * self.scale
    }
}
