//! An f32 number in two halves of 16 bits: the bf16 that the model computes with, and what it lacks.
//!
//! With b the bits of the f32 number as an integer, the high half is `(b + 2^15) >> 16`, the nearest bf16 (a tie goes
//! away from zero), and the low half is `b - (high << 16)`, which fits a signed 16-bit integer. So nothing is lost:
//! `b = (high << 16) + low`. This holds for every finite number whose nearest bf16 is finite.

use tch::{Kind, Tensor};

/// The f32 numbers of two halves.
pub(crate) fn joined(high: &Tensor, low: &Tensor) -> Tensor {
    let mut bits = high.view_dtype(Kind::Int16).to_kind(Kind::Int).bitwise_left_shift_tensor_scalar(16);
    let _ = bits.g_add_(&low.to_kind(Kind::Int));
    bits.view_dtype(Kind::Float)
}

/// Stores f32 numbers in two halves, which are of the types bf16 and int16.
pub(crate) fn store(numbers: &Tensor, high: &Tensor, low: &Tensor) {
    let bits = numbers.view_dtype(Kind::Int);
    let mut rounded = &bits + (1i64 << 15);
    let _ = rounded.bitwise_right_shift_tensor_scalar_(16);
    high.view_dtype(Kind::Int16).copy_(&rounded);
    let _ = rounded.bitwise_left_shift_tensor_scalar_(16);
    low.shallow_clone().copy_(&(bits - rounded));
}

/// Stores f32 numbers as bf16, each rounded up or down with the chance of its distance, so that the mean is right.
pub(crate) fn store_by_chance(numbers: &Tensor, high: &Tensor) {
    let noise = Tensor::randint(1 << 16, numbers.size(), (Kind::Int, numbers.device()));
    let mut bits = noise + numbers.view_dtype(Kind::Int);
    let _ = bits.bitwise_right_shift_tensor_scalar_(16);
    high.view_dtype(Kind::Int16).copy_(&bits);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    fn empty(kind: Kind, like: &Tensor) -> Tensor {
        Tensor::empty(like.size(), (kind, Device::Cpu))
    }

    #[test]
    fn two_halves_give_the_number_back_bit_for_bit_and_the_high_one_is_the_nearest() {
        tch::manual_seed(1);
        // Ties, a tie just below a power of two, signs, zeros, tiny and huge numbers.
        let hard: Vec<f32> =
            [0x3f80_8000u32, 0x3f80_7fff, 0x3fff_8000, 0xbf80_8000, 0, 0x8000_0000, 1, 0x7f7f_0000]
                .map(f32::from_bits)
                .to_vec();
        let numbers = Tensor::cat(&[Tensor::randn([100_000], CPU), Tensor::from_slice(&hard)], 0);
        let (high, low) = (empty(Kind::BFloat16, &numbers), empty(Kind::Int16, &numbers));
        store(&numbers, &high, &low);
        let bits = |x: &Tensor| Vec::<i32>::try_from(&x.view_dtype(Kind::Int)).expect("bits");
        assert_eq!(bits(&joined(&high, &low)), bits(&numbers));
        let off =
            |x: &Tensor| Vec::<f32>::try_from((x.to_kind(Kind::Float) - &numbers).abs()).expect("numbers");
        assert_eq!(off(&high), off(&numbers.to_kind(Kind::BFloat16)), "as near as libtorch's own rounding");
    }

    #[test]
    fn chance_is_right_in_the_mean_and_never_beyond_the_neighbours() {
        tch::manual_seed(1);
        let value = 1.0f32 + 1.0 / 512.0;
        let numbers = Tensor::full([200_000], f64::from(value), CPU);
        let high = empty(Kind::BFloat16, &numbers);
        store_by_chance(&numbers, &high);
        let stored = high.to_kind(Kind::Double);
        let (low, up) = (stored.min().double_value(&[]), stored.max().double_value(&[]));
        assert_eq!((low, up), (1.0, 1.0 + 1.0 / 128.0));
        // A quarter of the way up: the mean of 200,000 is off by 1e-5 at most, six standard deviations.
        assert!((stored.mean(Kind::Double).double_value(&[]) - f64::from(value)).abs() < 5e-5);
    }
}
