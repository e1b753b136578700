//! The search for near-duplicates: sketches, bands, compared pairs, components.
//!
//! Items that share a band are candidates. One is compared with those before it in its band until it is found to be
//! like one of each component there; what is joined already is not compared again, because a component is the same with
//! one edge or with all. Every edge is a pair whose sets were compared: no sketch is believed.
//!
//! Memory: two numbers and a sketch for each item (sketches beyond the budget lie in a file and are read by place), and
//! the keys of one band, which are looked at in as many passes as the budget makes of them.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;

use super::components::Components;
use super::sketch::{Likeness, equal, key};
use super::sketches::Sketches;
use super::tokens::{as_set, jaccard};
use crate::error::Result;

/// What is searched.
pub trait Items: Sync {
    /// How many there are.
    fn count(&self) -> u32;

    /// What an item belongs to: only items of one group are compared.
    fn group(&self, item: u32) -> u32;

    /// Adds the hashes that an item is compared by to `out`, in any order and as often as they come. An item without
    /// any is like no other.
    fn hashes(&self, item: u32, out: &mut Vec<u64>) -> Result<()>;
}

/// What a search did. How much it compared depends on who was faster; what it found does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Pairs whose sets were compared.
    pub compared: u64,
    /// Those that were alike.
    pub alike: u64,
}

impl Effort {
    fn and(self, other: Self) -> Self {
        Self { compared: self.compared + other.compared, alike: self.alike + other.alike }
    }
}

/// Bytes of a key with its item.
const KEYED: u64 = 8;
/// Keys that are always looked at together.
const LEAST_AT_ONCE: u64 = 1 << 16;

/// For each item the lowest of its component: items are linked by pairs whose similarity is the threshold or more.
/// `budget` is about how many bytes of memory to use; `scratch` is a folder for what is beyond it.
pub fn search(
    items: &impl Items,
    likeness: &Likeness,
    budget: u64,
    scratch: &Path,
) -> Result<(Vec<u32>, Effort)> {
    let sketches = Sketches::make(items, likeness, budget / 2, scratch)?;
    let components = Components::new(items.count());
    let search = Search { items, likeness, sketches: &sketches, components: &components };
    let passes = u64::from(items.count()).div_ceil((budget / 4 / KEYED).max(LEAST_AT_ONCE)).max(1);
    let mut effort = Effort::default();
    for band in 0..likeness.bands() {
        for pass in 0..passes {
            effort = effort.and(search.band(band, pass, passes)?);
        }
    }
    Ok((components.into_lowest(), effort))
}

struct Search<'a, I> {
    items: &'a I,
    likeness: &'a Likeness,
    sketches: &'a Sketches,
    components: &'a Components,
}

/// What a thread works with.
#[derive(Default)]
struct Workplace {
    old_sketch: Vec<u8>,
    new_sketch: Vec<u8>,
    old_set: Held,
    new_set: Held,
}

/// The set of an item, held because it is often compared again.
#[derive(Default)]
struct Held {
    item: Option<u32>,
    set: Vec<u64>,
}

impl Held {
    fn set(&mut self, item: u32, items: &impl Items) -> Result<&[u64]> {
        if self.item.replace(item) != Some(item) {
            self.item = None;
            self.set.clear();
            items.hashes(item, &mut self.set)?;
            as_set(&mut self.set);
            self.item = Some(item);
        }
        Ok(&self.set)
    }
}

impl<I: Items> Search<'_, I> {
    /// Looks at those that meet in a band, of the keys in one of several ranges of one size.
    fn band(&self, band: usize, pass: u64, passes: u64) -> Result<Effort> {
        let mut keyed: Vec<(u32, u32)> = Vec::new();
        self.sketches.each(|item, sketch| {
            let key = key(sketch, self.likeness.permutations, band);
            if (u64::from(key) * passes) >> 32 == pass {
                keyed.push((key, item));
            }
        })?;
        keyed.par_sort_unstable();
        let (mut meetings, mut start): (Vec<Range<usize>>, usize) = (Vec::new(), 0);
        for meeting in keyed.chunk_by(|a, b| a.0 == b.0) {
            let end = start + meeting.len();
            if meeting.len() > 1 {
                meetings.push(start..end);
            }
            start = end;
        }
        let meet = |work: &mut Workplace, at: &Range<usize>| self.meet(band, &keyed[at.clone()], work);
        let efforts = meetings.par_iter().map_init(Workplace::default, meet);
        efforts.try_reduce(Effort::default, |a, b| Ok(a.and(b)))
    }

    /// Joins those of a meeting that are alike.
    fn meet(&self, band: usize, meeting: &[(u32, u32)], work: &mut Workplace) -> Result<Effort> {
        let mut effort = Effort::default();
        // The components that are here, each with those of its members that are.
        let mut circles: Vec<Vec<u32>> = Vec::new();
        for &(_, new) in meeting {
            let (mut home, mut at): (Option<usize>, usize) = (None, 0);
            while at < circles.len() {
                let circle = &circles[at];
                let is_in = self.components.together(circle[0], new)
                    || self.joins(band, new, circle, work, &mut effort)?;
                match (is_in, home) {
                    (true, None) => {
                        circles[at].push(new);
                        home = Some(at);
                    }
                    // It is what two of them have in common.
                    (true, Some(home)) => {
                        let other = circles.swap_remove(at);
                        circles[home].extend(other);
                        continue;
                    }
                    (false, _) => {}
                }
                at += 1;
            }
            if home.is_none() {
                circles.push(vec![new]);
            }
        }
        Ok(effort)
    }

    /// Whether one of a circle is like the new one; then they are joined.
    fn joins(
        &self,
        band: usize,
        new: u32,
        circle: &[u32],
        work: &mut Workplace,
        effort: &mut Effort,
    ) -> Result<bool> {
        for &old in circle {
            if self.items.group(old) != self.items.group(new) || !self.is_candidate(band, old, new, work)? {
                continue;
            }
            effort.compared += 1;
            let sets = (work.old_set.set(old, self.items)?, work.new_set.set(new, self.items)?);
            if jaccard(sets.0, sets.1) >= self.likeness.threshold {
                effort.alike += 1;
                self.components.join(old, new);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a pair is worth comparing: it has not met in a band before this one, and its sketches look alike.
    fn is_candidate(&self, band: usize, old: u32, new: u32, work: &mut Workplace) -> Result<bool> {
        let permutations = self.likeness.permutations;
        let old = self.sketches.get(old, &mut work.old_sketch)?;
        let new = self.sketches.get(new, &mut work.new_sketch)?;
        let has_met = (0..band).any(|band| key(old, permutations, band) == key(new, permutations, band));
        Ok(!has_met && equal(old, new, permutations) >= self.likeness.least_equal())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::tokens::{shingles, tokens};

    /// Texts in groups, in memory.
    struct Texts(Vec<(u32, String)>);

    impl Items for Texts {
        fn count(&self) -> u32 {
            self.0.len() as u32
        }

        fn group(&self, item: u32) -> u32 {
            self.0[item as usize].0
        }

        fn hashes(&self, item: u32, out: &mut Vec<u64>) -> Result<()> {
            let mut words = Vec::new();
            tokens(&self.0[item as usize].1, &mut words);
            shingles(&words, 3, 0, out);
            Ok(())
        }
    }

    /// A family of texts from one, each changed in some places; by a counter that is hashed, so always the same.
    fn families(families: u64, members: u64) -> Texts {
        let number = |parts: [u64; 4]| {
            let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
            u64::from_le_bytes(blake3::hash(&bytes).as_bytes()[..8].try_into().expect("8 bytes"))
        };
        let text = |family: u64, member: u64| {
            let words = 40 + number([1, family, 0, 0]) % 200;
            let changed = number([2, family, member, 0]) % 16;
            let word = |n: u64| {
                let is_own = number([3, family, member, n]) % 100 < changed;
                format!("w{}", number([4, family, if is_own { member + 1 } else { 0 }, n]) % 5000)
            };
            (0..words).map(word).collect::<Vec<_>>().join(" ")
        };
        let each = (0..families).flat_map(|f| (0..members).map(move |m| (f, m)));
        Texts(each.map(|(f, m)| ((f % 3) as u32, text(f, m))).collect())
    }

    fn likeness() -> Likeness {
        Likeness { ngram: 3, permutations: 128, threshold: 0.7 }
    }

    fn found(texts: &Texts, budget: u64, threads: usize) -> Vec<u32> {
        let scratch = tempfile::tempdir().expect("folder");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        pool.install(|| search(texts, &likeness(), budget, scratch.path())).expect("search").0
    }

    /// Components of all pairs that are alike, and those pairs with their similarity, found without sketches.
    fn by_comparing_all(texts: &Texts) -> (Vec<u32>, Vec<(u32, u32, f64)>) {
        let sets: Vec<Vec<u64>> = (0..texts.count())
            .map(|item| {
                let mut set = Vec::new();
                texts.hashes(item, &mut set).expect("hashes");
                as_set(&mut set);
                set
            })
            .collect();
        let components = Components::new(texts.count());
        let mut alike = Vec::new();
        for a in 0..texts.count() {
            for b in (0..a).filter(|b| texts.group(*b) == texts.group(a)) {
                let similarity = jaccard(&sets[a as usize], &sets[b as usize]);
                if similarity >= likeness().threshold {
                    components.join(a, b);
                    alike.push((b, a, similarity));
                }
            }
        }
        (components.into_lowest(), alike)
    }

    #[test]
    fn nothing_below_the_threshold_is_joined_and_little_above_it_is_missed() {
        let texts = families(60, 12);
        let found = found(&texts, 1 << 30, 2);
        let (exact, alike) = by_comparing_all(&texts);
        // Components of fewer edges are within those of all.
        let mut whole = std::collections::HashMap::new();
        for (found, exact) in found.iter().zip(&exact) {
            assert_eq!(*whole.entry(*found).or_insert(*exact), *exact, "strangers are together");
        }
        let clear: Vec<_> = alike.iter().filter(|(.., similarity)| *similarity >= 0.75).collect();
        let together = clear.iter().filter(|(a, b, _)| found[*a as usize] == found[*b as usize]).count();
        assert!(clear.len() > 300, "{}", clear.len());
        assert!(together as f64 >= 0.99 * clear.len() as f64, "{together} of {}", clear.len());
        assert!(found.iter().enumerate().any(|(at, low)| *low as usize == at && at > 0), "not all are one");
    }

    #[test]
    fn neither_order_nor_threads_nor_memory_decide() {
        let texts = families(30, 9);
        let named = |texts: &Texts, found: &[u32], order: &[usize]| {
            let mut sets = std::collections::BTreeMap::<u32, Vec<usize>>::new();
            for (item, low) in found.iter().enumerate() {
                sets.entry(*low).or_default().push(order[item]);
            }
            assert!(found.len() == texts.0.len());
            let mut sets: Vec<Vec<usize>> = sets.into_values().collect();
            sets.iter_mut().for_each(|set| set.sort_unstable());
            sets.sort();
            sets
        };
        let order: Vec<usize> = (0..texts.0.len()).collect();
        let expected = named(&texts, &found(&texts, 1 << 30, 1), &order);
        for (turn, (budget, threads)) in [(1 << 30, 2), (1 << 12, 5), (0, 1)].into_iter().enumerate() {
            let mut order = order.clone();
            order.sort_by_cached_key(|at| *blake3::hash(format!("{turn} {at}").as_bytes()).as_bytes());
            let shuffled = Texts(order.iter().map(|&at| texts.0[at].clone()).collect());
            assert_eq!(named(&shuffled, &found(&shuffled, budget, threads), &order), expected, "{budget}");
        }
    }

    #[test]
    fn what_is_empty_or_in_another_group_is_alone() {
        let text = |group: u32, text: &str| (group, text.to_owned());
        let texts = Texts(vec![
            text(0, ""),
            text(0, " \n"),
            text(0, "a b c d e"),
            text(1, "a b c d e"),
            text(0, "a  b c d\te"),
        ]);
        assert_eq!(found(&texts, 1 << 30, 2), [0, 1, 2, 3, 2]);
        assert_eq!(found(&Texts(vec![]), 1 << 30, 2), [] as [u32; 0]);
    }
}
