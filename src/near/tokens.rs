//! Code as tokens, and tokens as shingles: the sets that similarity is measured on.
//!
//! A token is a word (letters, digits, `_`, and every byte beyond ASCII) or one other character; blanks separate and
//! count for nothing, so layout is no difference. A shingle is so many tokens in a row, hashed. Hashes go into
//! datasets by what they decide, so they are the same on every machine and for ever: another function is another
//! version of every stage that uses it.

/// Offset and prime of FNV-1a, 64 bits (RFC 9923, section 5).
const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0000_0100_0000_01b3;
/// What a shingle's tokens are joined with: an odd number with its bits spread, 2^64 divided by the golden ratio.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Blank,
    Word,
    Other,
}

const CLASSES: [Class; 256] = classes();

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Other; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        if b.is_ascii_whitespace() || b == 0x0b {
            classes[byte] = Class::Blank;
        } else if b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80 {
            classes[byte] = Class::Word;
        }
        byte += 1;
    }
    classes
}

/// Bytes of a text that count: what is behind them is no part of its set, so that one hostile text does not fill the
/// memory.
pub const MOST_BYTES: usize = 2 << 20;

/// The hashes of a text's tokens, in order, behind those that are there.
pub fn tokens(text: &str, out: &mut Vec<u64>) {
    let bytes = &text.as_bytes()[..text.len().min(MOST_BYTES)];
    let mut at = 0;
    while let Some(&first) = bytes.get(at) {
        let mut hash = (OFFSET ^ u64::from(first)).wrapping_mul(PRIME);
        at += 1;
        match CLASSES[usize::from(first)] {
            Class::Blank => continue,
            Class::Other => {}
            Class::Word => {
                while let Some(&next) = bytes.get(at).filter(|b| CLASSES[usize::from(**b)] == Class::Word) {
                    hash = (hash ^ u64::from(next)).wrapping_mul(PRIME);
                    at += 1;
                }
            }
        }
        out.push(hash);
    }
}

/// The hashes of all `ngram` tokens in a row, behind those that are there; of fewer tokens than that, all are one.
/// `kind` tells sets apart that must not meet, such as lines that came and lines that went.
pub fn shingles(tokens: &[u64], ngram: usize, kind: u64, out: &mut Vec<u64>) {
    if tokens.is_empty() || ngram == 0 {
        return;
    }
    let width = ngram.min(tokens.len());
    // The weight of the token that leaves the window.
    let last = (1..width).fold(1_u64, |power, _| power.wrapping_mul(BASE));
    let salt = mixed(kind.wrapping_mul(BASE) ^ width as u64);
    let join = |sum: u64, token: u64| sum.wrapping_mul(BASE).wrapping_add(token);
    let mut sum = tokens[..width].iter().fold(0, |sum, &token| join(sum, token));
    out.push(mixed(sum ^ salt));
    out.extend(tokens.iter().zip(&tokens[width..]).map(|(gone, come)| {
        sum = join(sum.wrapping_sub(gone.wrapping_mul(last)), *come);
        mixed(sum ^ salt)
    }));
}

/// The last step of MurmurHash3 for 64 bits (A. Appleby, public domain): every bit depends on every bit.
fn mixed(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// Hashes as a set: in order, each once.
pub fn as_set(hashes: &mut Vec<u64>) {
    hashes.sort_unstable();
    hashes.dedup();
}

/// The Jaccard similarity of two sets in order: the share of all that both have. Of two empty ones it is 0: nothing
/// is like nothing.
pub fn jaccard(a: &[u64], b: &[u64]) -> f64 {
    let (mut left, mut right, mut both) = (0, 0, 0_usize);
    while let (Some(x), Some(y)) = (a.get(left), b.get(right)) {
        both += usize::from(x == y);
        left += usize::from(x <= y);
        right += usize::from(y <= x);
    }
    let all = a.len() + b.len() - both;
    if all == 0 { 0.0 } else { both as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str, ngram: usize) -> Vec<u64> {
        let (mut words, mut set) = (Vec::new(), Vec::new());
        tokens(text, &mut words);
        shingles(&words, ngram, 0, &mut set);
        as_set(&mut set);
        set
    }

    #[test]
    fn layout_is_no_difference_and_one_token_is() {
        let check = |a: &str, b: &str, expected: f64| {
            assert_eq!(jaccard(&set(a, 3), &set(b, 3)), expected, "{a:?} {b:?}");
        };
        check("def f(x):\n    return x+1\n", "def  f( x ) :\n\treturn x + 1", 1.0);
        check("a b c d", "a b c e", 1.0 / 3.0);
        check("größe = 1", "größe=1", 1.0);
        check("a b", "a b", 1.0);
        check("a b", "a b c", 0.0);
        check("", "", 0.0);
        check("ab c d", "a bc d", 0.0);
    }

    #[test]
    fn a_window_that_rolls_is_a_window() {
        let mut words = Vec::new();
        tokens("for i in range(10): total += values[i] * weights[i - 1] / scale", &mut words);
        for ngram in [1, 2, 5, 40] {
            let mut rolled = Vec::new();
            shingles(&words, ngram, 7, &mut rolled);
            let each: Vec<u64> = words
                .windows(ngram.min(words.len()))
                .flat_map(|window| {
                    let mut one = Vec::new();
                    shingles(window, ngram, 7, &mut one);
                    one
                })
                .collect();
            assert_eq!(rolled, each, "{ngram}");
        }
    }

    /// What they decide is stored, so they may not change unseen.
    #[test]
    fn hashes_stay_as_they_are() {
        let mut words = Vec::new();
        tokens("a", &mut words);
        assert_eq!(words, [0xaf63_dc4c_8601_ec8c], "the published hash of `a`");
        assert_eq!(set("x = 1", 2), [2_545_788_025_625_228_684, 7_790_335_481_815_223_648]);
    }
}
