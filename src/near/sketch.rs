//! MinHash: a set as the lowest of its items' hashes under many permutations, so that two sets agree in a place as often
//! as they share items (A. Broder, "On the resemblance and containment of documents", 1997).
//!
//! Of each lowest hash a byte is kept, which is enough for an estimate, and of each band of them one hash, by which
//! candidates meet. That is 4 bytes a band, 1 a permutation and 1 that says whether there is a set at all: 193 bytes an
//! item for 128 permutations in bands of 8.

/// How sets are sketched and when they are alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    /// Tokens of a shingle.
    pub ngram: usize,
    /// Hashes of a sketch.
    pub permutations: usize,
    /// The least Jaccard similarity of what is alike.
    pub threshold: f64,
}

/// How far above the threshold nothing may be missed.
const ABOVE: f64 = 0.05;
/// The share of pairs so far above it that meet in no band, at most.
const MISSED: f64 = 0.001;
/// Standard errors by which an estimate may be below the threshold before a pair is not looked at.
const ERRORS: f64 = 3.0;
/// How often bytes of different hashes are equal.
const BY_CHANCE: f64 = 1.0 / 256.0;

impl Likeness {
    /// Hashes of a band: as many as still bring together all but `MISSED` of the pairs that are `ABOVE` the
    /// threshold. A band of `r` hashes is equal with probability `s^r`.
    pub fn rows(&self) -> usize {
        let similarity = (self.threshold + ABOVE).min(1.0);
        let misses = |rows: usize| {
            (1.0 - similarity.powi(rows as i32)).powi((self.permutations / rows) as i32) > MISSED
        };
        (1..=self.permutations).rev().find(|&rows| !misses(rows)).unwrap_or(1)
    }

    /// Bands of a sketch.
    pub fn bands(&self) -> usize {
        self.permutations / self.rows()
    }

    /// Bytes of a sketch.
    pub fn bytes(&self) -> usize {
        self.permutations + self.bands() * KEY + 1
    }

    /// How many bytes of two sketches must be equal at least, for the pair to be looked at.
    pub fn least_equal(&self) -> usize {
        let places = self.permutations as f64;
        let error = (self.threshold * (1.0 - self.threshold) / places).sqrt();
        let least = (self.threshold - ERRORS * error).max(0.0);
        (places * (least + (1.0 - least) * BY_CHANCE)).floor() as usize
    }
}

/// Bytes of a band's key.
const KEY: usize = 4;
/// Hashes that are kept in registers while all items of a set go by.
const CHUNK: usize = 32;

/// Makes sketches; one for each thread.
pub(super) struct Sketcher {
    /// For each permutation what an item is mixed with: an item becomes `(item ^ salt) * factor`, of which the high bits
    /// depend on all. Filled up to whole chunks.
    salts: Vec<u32>,
    factors: Vec<u32>,
    lowest: Vec<u32>,
    items: Vec<u32>,
    rows: usize,
    permutations: usize,
}

impl Sketcher {
    /// For sketches of this kind.
    pub(super) fn new(likeness: &Likeness) -> Self {
        let places = likeness.permutations.next_multiple_of(CHUNK);
        // Numbers without a pattern, the same for ever: they decide what meets.
        let mut stream = vec![0; places * 8];
        blake3::Hasher::new_derive_key("finch 2026 permutations of near-duplicate sketches, version 1")
            .finalize_xof()
            .fill(&mut stream);
        let (words, _) = stream.as_chunks::<4>();
        let numbers: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let (salts, factors) = numbers.split_at(places);
        Self {
            salts: salts.to_vec(),
            factors: factors.iter().map(|factor| factor | 1).collect(),
            lowest: vec![0; places],
            items: Vec::new(),
            rows: likeness.rows(),
            permutations: likeness.permutations,
        }
    }

    /// Writes the sketch of a set; its items may come more than once. `group` tells apart what must not meet.
    pub(super) fn sketch(&mut self, set: &[u64], group: u32, sketch: &mut [u8]) {
        self.items.clear();
        self.items.extend(set.iter().map(|item| (item >> 32) as u32));
        let (salts, _) = self.salts.as_chunks::<CHUNK>();
        let (factors, _) = self.factors.as_chunks::<CHUNK>();
        let (lowest, _) = self.lowest.as_chunks_mut::<CHUNK>();
        for ((lowest, salts), factors) in lowest.iter_mut().zip(salts).zip(factors) {
            *lowest = lowest_of(&self.items, salts, factors);
        }
        let hashes = &self.lowest[..self.permutations];
        let (bytes, keys) = sketch.split_at_mut(self.permutations);
        let (keys, filled) = keys.split_at_mut(keys.len() - 1);
        filled[0] = u8::from(!set.is_empty());
        for (byte, hash) in bytes.iter_mut().zip(hashes) {
            // The low bits: of the lowest of many hashes, the high ones are mostly zero.
            *byte = (hash & 0xff) as u8;
        }
        let (keys, _) = keys.as_chunks_mut::<KEY>();
        for ((band, key), hashes) in (0_u32..).zip(keys).zip(hashes.chunks_exact(self.rows)) {
            let mut sum = u64::from(group) << 32 | u64::from(band);
            for &hash in hashes {
                sum = (sum.rotate_left(23) ^ u64::from(hash)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
            *key = ((sum >> 32) as u32).to_le_bytes();
        }
    }
}

/// The lowest hashes of items under a chunk of permutations, with the widest vectors that the machine has.
fn lowest_of(items: &[u32], salts: &[u32; CHUNK], factors: &[u32; CHUNK]) -> [u32; CHUNK] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        #[allow(unsafe_code)]
        // SAFETY: the machine has the instructions, which is all that the function asks for.
        return unsafe { lowest_by_avx2(items, salts, factors) };
    }
    lowest_by_any(items, salts, factors)
}

/// The same for compilers that may use AVX2: it is much faster, as plain x86-64 has neither a product nor a
/// minimum of four 32-bit numbers.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn lowest_by_avx2(items: &[u32], salts: &[u32; CHUNK], factors: &[u32; CHUNK]) -> [u32; CHUNK] {
    lowest_by_any(items, salts, factors)
}

#[inline(always)]
fn lowest_by_any(items: &[u32], salts: &[u32; CHUNK], factors: &[u32; CHUNK]) -> [u32; CHUNK] {
    let mut lowest = [u32::MAX; CHUNK];
    for &item in items {
        for place in 0..CHUNK {
            lowest[place] = lowest[place].min((item ^ salts[place]).wrapping_mul(factors[place]));
        }
    }
    lowest
}

/// The key of a band in a sketch.
pub(super) fn key(sketch: &[u8], permutations: usize, band: usize) -> u32 {
    let at = permutations + band * KEY;
    sketch[at..].first_chunk::<KEY>().map_or(0, |key| u32::from_le_bytes(*key))
}

/// Whether a sketch is of a set with items. All others are equal, and mean nothing.
pub(super) fn is_filled(sketch: &[u8]) -> bool {
    sketch.last() == Some(&1)
}

/// In how many places two sketches are equal.
pub(super) fn equal(a: &[u8], b: &[u8], permutations: usize) -> usize {
    let bytes = a[..permutations].iter().zip(&b[..permutations]);
    bytes.map(|(x, y)| u32::from(x == y)).sum::<u32>() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::tokens::{as_set, jaccard};

    fn likeness(threshold: f64) -> Likeness {
        Likeness { ngram: 5, permutations: 128, threshold }
    }

    #[test]
    fn bands_miss_little_above_the_threshold() {
        assert_eq!((likeness(0.85).rows(), likeness(0.85).bands()), (8, 16));
        for percent in 1..=100 {
            for permutations in [16, 64, 128, 256] {
                let likeness = Likeness { permutations, ..likeness(f64::from(percent) / 100.0) };
                let (rows, bands) = (likeness.rows(), likeness.bands());
                assert!(rows * bands <= permutations && bands > 0);
                let similarity = (likeness.threshold + ABOVE).min(1.0);
                let missed = (1.0 - similarity.powi(rows as i32)).powi(bands as i32);
                assert!(missed <= MISSED || rows == 1, "{percent} % {permutations}: {missed}");
                assert!(likeness.least_equal() <= permutations);
            }
        }
    }

    /// The estimate of a sketch is off by about sqrt(s (1 - s) / 128): without a bias, and not by more.
    #[test]
    fn sketches_agree_as_often_as_sets_share_items() {
        let item = |n: u64| {
            u64::from_le_bytes(blake3::hash(&n.to_le_bytes()).as_bytes()[..8].try_into().expect("8"))
        };
        let likeness = likeness(0.85);
        let mut sketcher = Sketcher::new(&likeness);
        for (shared, own) in [(900, 50), (800, 100), (500, 250), (45, 5)] {
            let (mut off, mut square) = (0.0, 0.0);
            let rounds = 60;
            for round in 0..rounds {
                let set = |side: u64| {
                    let of = |n: u64| item(round << 40 | n);
                    let mut all: Vec<u64> =
                        (0..shared).map(of).chain((0..own).map(|n| of(n | (side + 1) << 20))).collect();
                    as_set(&mut all);
                    all
                };
                let (a, b) = (set(0), set(1));
                let sketches = [&a, &b].map(|set| {
                    let mut sketch = vec![0; likeness.bytes()];
                    sketcher.sketch(set, 0, &mut sketch);
                    sketch
                });
                let seen = equal(&sketches[0], &sketches[1], 128) as f64 / 128.0;
                let error = (seen - BY_CHANCE) / (1.0 - BY_CHANCE) - jaccard(&a, &b);
                off += error / rounds as f64;
                square += error * error / rounds as f64;
            }
            let s = shared as f64 / (shared + 2 * own) as f64;
            let expected = (s * (1.0 - s) / 128.0).sqrt();
            assert!(off.abs() < 4.0 * expected / (rounds as f64).sqrt(), "{s}: bias {off}");
            assert!(square.sqrt() < 1.4 * expected, "{s}: error {} not {expected}", square.sqrt());
        }
    }

    #[test]
    fn vectors_decide_nothing() {
        let numbers = |seed: u32| std::array::from_fn(|n| (seed + n as u32).wrapping_mul(0x9e37_79b9) | 1);
        let items: Vec<u32> = (0..999).map(|n: u32| n.wrapping_mul(0x85eb_ca6b)).collect();
        let (salts, factors) = (numbers(1), numbers(77));
        let expected: [u32; CHUNK] = std::array::from_fn(|place| {
            let hashes = items.iter().map(|item| (item ^ salts[place]).wrapping_mul(factors[place]));
            hashes.min().expect("items")
        });
        assert_eq!(lowest_of(&items, &salts, &factors), expected);
        assert_eq!(lowest_by_any(&items, &salts, &factors), expected);
    }

    #[test]
    fn what_is_in_other_groups_does_not_meet() {
        let likeness = likeness(0.5);
        let mut sketcher = Sketcher::new(&likeness);
        let sketches = [0, 1].map(|group| {
            let mut sketch = vec![0; likeness.bytes()];
            sketcher.sketch(&[1 << 40, 2 << 40, 3 << 40], group, &mut sketch);
            sketch
        });
        assert_eq!(equal(&sketches[0], &sketches[1], 128), 128);
        let keys =
            |sketch: &[u8]| (0..likeness.bands()).map(|band| key(sketch, 128, band)).collect::<Vec<_>>();
        assert!(keys(&sketches[0]).iter().zip(keys(&sketches[1])).all(|(a, b)| *a != b));
    }
}
