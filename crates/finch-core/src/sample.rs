//! Choices by hash: the same answer in any order, on any number of threads, on any machine.
//!
//! No random number generator takes part in a dataset. A key is in a sample of a fraction when its hash,
//! read as a number in [0, 1), lies below that fraction; growing the fraction only adds keys, and adding
//! keys moves none.

use crate::Kind;

/// The place of a key in [0, 1) under a seed and a purpose, uniform over keys.
///
/// The purpose keeps choices apart that share a seed: a run that is in the sample is not for that reason in
/// the validation split.
pub fn unit(seed: u64, purpose: &str, key: &str) -> f64 {
    let digest = Kind::Choice.fields().int(seed).text(purpose).text(key).finish();
    let mut first = [0; 8];
    first.copy_from_slice(&digest.as_bytes()[..8]);
    // 53 bits fill an f64's mantissa exactly, so the result is below one and exactly representable.
    (u64::from_be_bytes(first) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::unit;

    #[test]
    fn a_fraction_takes_its_share_and_growing_it_only_adds() {
        let keys: Vec<f64> = (0..10_000).map(|i| unit(33, "sample", &i.to_string())).collect();
        let share = |fraction: f64| keys.iter().filter(|&&u| u < fraction).count();
        assert!((900..1100).contains(&share(0.1)), "{}", share(0.1));
        assert!(share(0.05) < share(0.1));
        assert_eq!(share(1.0), keys.len());
    }

    #[test]
    fn purposes_are_independent() {
        let both = (0..10_000)
            .map(|i| i.to_string())
            .filter(|key| unit(1, "a", key) < 0.5 && unit(1, "b", key) < 0.5)
            .count();
        assert!((2300..2700).contains(&both), "{both}");
    }
}
