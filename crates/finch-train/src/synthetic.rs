//! Made-up tokens for timing: a linear congruence, so that other programs can make the same ones.

use crate::sequence::Sequence;

/// A pack of `tokens` made-up tokens below `vocabulary` in documents of `document`, the last perhaps shorter, each with
/// its last `trained` part trained (rounded up, and never its first token).
///
/// The generator is Knuth's MMIX one; what a token is made of are its upper bits.
pub fn sequence(vocabulary: i64, tokens: usize, document: usize, trained: f64, seed: u64) -> Sequence {
    let mut state = seed;
    let mut sequence = Sequence::default();
    let mut left = tokens;
    while left > 0 {
        let length = document.clamp(1, left);
        let ids: Vec<i32> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                ((state >> 33) % vocabulary.max(1) as u64) as i32
            })
            .collect();
        let masked = length - ((length as f64 * trained).ceil() as usize).min(length);
        let mask: Vec<bool> = (0..length).map(|t| t >= masked && t > 0).collect();
        sequence.push(&ids, &mask, 1.0);
        left -= length;
    }
    sequence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_have_their_length_and_their_last_part_is_trained() {
        let sequence = sequence(100, 25, 10, 0.25, 0);
        assert_eq!(sequence.lengths, [10, 10, 5]);
        // Three of ten, three of ten, two of five.
        assert_eq!(sequence.rows, [6, 7, 8, 16, 17, 18, 22, 23]);
        assert_eq!(super::sequence(100, 10, 10, 1.0, 0).rows.len(), 9, "nothing predicts a first token");
        // The first two states are 1442695040888963407 and its successor.
        let first = (1_442_695_040_888_963_407u64 >> 33) % 100;
        assert_eq!(sequence.ids[0], first as i64);
    }
}
