//! What a step changed: the lines of the child that its parent lacks, and the lines of the parent that are gone.
//!
//! Lines are counted, not aligned, so a block that moved is no change, and blanks at the ends of a line count for
//! nothing. Children differ from their parents in little; what two steps have in common is in these lines.

use std::collections::HashMap;

use super::tokens::{MOST_BYTES, shingles, tokens};

/// Kinds of sets: one of lines that came and one of lines that went do not meet.
const CAME: u64 = 1;
const WENT: u64 = 2;

/// The hashes of what changed, behind those that are there; none where nothing did.
pub fn hashes(parent: &str, child: &str, ngram: usize, out: &mut Vec<u64>) {
    let [parent, child] = [parent, child].map(|text| &text[..text.floor_char_boundary(MOST_BYTES)]);
    for (kind, old, new) in [(CAME, parent, child), (WENT, child, parent)] {
        let mut words = Vec::new();
        lines_without(new, old).for_each(|line| tokens(line, &mut words));
        shingles(&words, ngram, kind, out);
    }
}

/// The lines of a text that are left when each line of another one took away one that is equal.
fn lines_without<'a>(text: &'a str, other: &'a str) -> impl Iterator<Item = &'a str> {
    let mut taken: HashMap<&str, u32, foldhash::fast::FixedState> = HashMap::default();
    for line in other.lines() {
        *taken.entry(line.trim()).or_default() += 1;
    }
    text.lines().map(str::trim).filter(move |line| match taken.get_mut(line) {
        Some(left) if *left > 0 => {
            *left -= 1;
            false
        }
        _ => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::tokens::{as_set, jaccard};

    #[test]
    fn lines_are_counted_and_not_aligned() {
        let check = |text: &str, other: &str, left: &[&str]| {
            assert_eq!(lines_without(text, other).collect::<Vec<_>>(), left);
        };
        check("a\nb\nb\nc\n", "b\nd\n", &["a", "b", "c"]);
        check("  x\ny", "y\nx", &[]);
        check("", "a", &[]);
    }

    #[test]
    fn equal_changes_of_other_parents_are_equal_and_opposite_ones_are_not() {
        let set = |parent: &str, child: &str| {
            let mut set = Vec::new();
            hashes(parent, child, 3, &mut set);
            as_set(&mut set);
            set
        };
        let (a, b) = ("x = 1\nlong part of a\ny = 2\n", "other part of b\nx = 1\ny = 2\n");
        let tuned = |text: &str| text.replace("x = 1", "x = 3 * scale");
        assert_eq!(jaccard(&set(a, &tuned(a)), &set(b, &tuned(b))), 1.0);
        assert_eq!(jaccard(&set(a, &tuned(a)), &set(&tuned(a), a)), 0.0);
        assert!(set(a, a).is_empty());
    }
}
