//! The search for near-duplicates: sketches, bands, compared pairs, components.
//!
//! Items that share a band are candidates. One is compared with those before it in its band until it is found to be
//! like one of each component there; what is joined already is not compared again, because a component is the same with
//! one edge or with all. Every edge is a pair whose sets were compared: no sketch is believed.
//!
//! Memory: a number and a sketch for each item (sketches beyond the budget lie in a file and are read by place), the
//! keys of one band, which are looked at in as many passes as the budget makes of them, and sets that are compared more
//! than once, as far as there is room.

use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};

use rayon::prelude::*;

use super::components::Components;
use super::sketch::{Likeness, equal, is_filled, key};
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

/// What bounds the memory of a search.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Bytes for sketches; beyond it they lie in a file.
    sketches: u64,
    /// Sketches of that file that are in memory together.
    at_once: usize,
    /// Keys of a band that are looked at together.
    keys: u64,
    /// Hashes of sets that are held because they are often compared.
    hashes: i64,
}

impl Limits {
    fn of(budget: u64) -> Self {
        Self {
            sketches: budget / 2,
            at_once: 1 << 14,
            keys: (budget / 8 / KEYED).max(1 << 16),
            hashes: (budget / 4 / 8) as i64,
        }
    }
}

/// Bytes of a key with its item.
const KEYED: u64 = 8;
/// Components of a meeting from which all threads look for one that is like a new member.
const MANY: usize = 256;

/// For each item the lowest of its component: items are linked by pairs whose similarity is the threshold or more.
/// `budget` is about how many bytes of memory to use; `scratch` is a folder for what is beyond it.
///
/// Time grows with the pairs that meet. Where very many items are just below the threshold, nearly all meet and none is
/// joined, so that is with the square of their number.
pub fn search(
    items: &impl Items,
    likeness: &Likeness,
    budget: u64,
    scratch: &Path,
) -> Result<(Vec<u32>, Effort)> {
    search_within(items, likeness, Limits::of(budget), scratch, &|_, _| ())
}

/// The search; `join` hears of each pair that is joined.
fn search_within(
    items: &impl Items,
    likeness: &Likeness,
    limits: Limits,
    scratch: &Path,
    join: &(impl Fn(u32, u32) + Sync),
) -> Result<(Vec<u32>, Effort)> {
    let sketches = Sketches::make(items, likeness, limits.sketches, limits.at_once, scratch)?;
    let components = Components::new(items.count());
    let room = AtomicI64::new(limits.hashes);
    let search = Search { items, likeness, sketches: &sketches, components: &components, room: &room, join };
    let passes = u64::from(items.count()).div_ceil(limits.keys).max(1);
    let mut effort = Effort::default();
    for band in 0..likeness.bands() {
        for pass in 0..passes {
            effort = effort.and(search.band(band, pass, passes)?);
        }
    }
    Ok((components.into_lowest(), effort))
}

struct Search<'a, I, J> {
    items: &'a I,
    likeness: &'a Likeness,
    sketches: &'a Sketches,
    components: &'a Components,
    /// Hashes that may still be held.
    room: &'a AtomicI64,
    join: &'a J,
}

impl<I: Items, J: Fn(u32, u32) + Sync> Search<'_, I, J> {
    /// Looks at those that meet in a band, of the keys in one of several ranges of one size.
    fn band(&self, band: usize, pass: u64, passes: u64) -> Result<Effort> {
        let mut keyed: Vec<(u32, u32)> = Vec::new();
        self.sketches.each(|item, sketch| {
            let key = key(sketch, self.likeness.permutations, band);
            if is_filled(sketch) && (u64::from(key) * passes) >> 32 == pass {
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
        let efforts = meetings.par_iter().map(|at| self.meet(band, &keyed[at.clone()]));
        efforts.try_reduce(Effort::default, |a, b| Ok(a.and(b)))
    }

    /// Joins those of a meeting that are alike.
    fn meet(&self, band: usize, members: &[(u32, u32)]) -> Result<Effort> {
        let meeting = Meeting::new(self.items, members, self.room);
        let mut effort = Effort::default();
        // The components that are here, each with those of its members that are, by their places.
        let mut circles: Vec<Vec<usize>> = Vec::new();
        for new in 0..members.len() {
            let look = |circle: &Vec<usize>| {
                let known = self.components.together(members[circle[0]].1, members[new].1);
                if known { Ok((true, Effort::default())) } else { self.joins(band, &meeting, new, circle) }
            };
            let found: Vec<(bool, Effort)> = match circles.len() < MANY {
                true => circles.iter().map(look).collect::<Result<_>>()?,
                false => circles.par_iter().map(look).collect::<Result<_>>()?,
            };
            effort = found.iter().fold(effort, |sum, (_, effort)| sum.and(*effort));
            // What it is in becomes one circle: it is what they have in common.
            let (mut home, mut at) = (vec![new], 0);
            circles.retain_mut(|circle| {
                let is_in = found[at].0;
                at += 1;
                if is_in {
                    home.append(circle);
                }
                !is_in
            });
            circles.push(home);
        }
        Ok(effort)
    }

    /// Whether one of a circle is like the new one; then they are joined.
    fn joins(
        &self,
        band: usize,
        meeting: &Meeting<'_, I>,
        new: usize,
        circle: &[usize],
    ) -> Result<(bool, Effort)> {
        let mut effort = Effort::default();
        let new_item = meeting.members[new].1;
        for &old in circle {
            let old_item = meeting.members[old].1;
            if self.items.group(old_item) != self.items.group(new_item)
                || !self.is_candidate(band, old_item, new_item)?
            {
                continue;
            }
            effort.compared += 1;
            if is_alike(&meeting.set(old)?, &meeting.set(new)?, self.likeness.threshold) {
                effort.alike += 1;
                self.components.join(old_item, new_item);
                (self.join)(old_item, new_item);
                return Ok((true, effort));
            }
        }
        Ok((false, effort))
    }

    /// Whether a pair is worth comparing: it has not met in a band before this one, and its sketches look alike.
    fn is_candidate(&self, band: usize, old: u32, new: u32) -> Result<bool> {
        let (mut old_room, mut new_room) = (Vec::new(), Vec::new());
        let permutations = self.likeness.permutations;
        let old = self.sketches.get(old, &mut old_room)?;
        let new = self.sketches.get(new, &mut new_room)?;
        let has_met = (0..band).any(|band| key(old, permutations, band) == key(new, permutations, band));
        Ok(!has_met && equal(old, new, permutations) >= self.likeness.least_equal())
    }
}

/// Whether two sets in order have at least this similarity.
fn is_alike(a: &[u64], b: &[u64], threshold: f64) -> bool {
    // Not even if one held all of the other.
    let (fewer, more) = (a.len().min(b.len()) as f64, a.len().max(b.len()) as f64);
    fewer >= threshold * more && jaccard(a, b) >= threshold
}

/// Items that share a band, with their sets as far as there is room for them.
struct Meeting<'a, I> {
    items: &'a I,
    members: &'a [(u32, u32)],
    sets: Vec<OnceLock<Vec<u64>>>,
    room: &'a AtomicI64,
}

impl<'a, I: Items> Meeting<'a, I> {
    fn new(items: &'a I, members: &'a [(u32, u32)], room: &'a AtomicI64) -> Self {
        let sets = members.iter().map(|_| OnceLock::new()).collect();
        Self { items, members, sets, room }
    }

    /// The set of the member at a place, in order.
    fn set(&self, place: usize) -> Result<Cow<'_, [u64]>> {
        if let Some(set) = self.sets[place].get() {
            return Ok(Cow::Borrowed(set));
        }
        let mut set = Vec::new();
        self.items.hashes(self.members[place].1, &mut set)?;
        as_set(&mut set);
        let size = set.len() as i64;
        if self.room.fetch_sub(size, Ordering::Relaxed) < size {
            self.room.fetch_add(size, Ordering::Relaxed);
            return Ok(Cow::Owned(set));
        }
        set.shrink_to_fit();
        // Where another thread was faster, its set is the same, and the room is given back.
        if let Err(set) = self.sets[place].set(set) {
            self.room.fetch_add(size, Ordering::Relaxed);
            return Ok(Cow::Owned(set));
        }
        Ok(self.sets[place].get().map_or(Cow::Owned(Vec::new()), |set| Cow::Borrowed(set)))
    }
}

impl<I> Drop for Meeting<'_, I> {
    fn drop(&mut self) {
        let held: usize = self.sets.iter().filter_map(OnceLock::get).map(Vec::len).sum();
        self.room.fetch_add(held as i64, Ordering::Relaxed);
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

    /// Limits under which sketches lie in a file of several batches, a band takes several passes, and no set is held.
    const TIGHT: Limits = Limits { sketches: 0, at_once: 50, keys: 40, hashes: 0 };

    fn found(texts: &Texts, limits: Limits, threads: usize) -> Vec<u32> {
        let scratch = tempfile::tempdir().expect("folder");
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("pool");
        let search = || search_within(texts, &likeness(), limits, scratch.path(), &|_, _| ());
        pool.install(search).expect("search").0
    }

    fn set(texts: &Texts, item: u32) -> Vec<u64> {
        let mut set = Vec::new();
        texts.hashes(item, &mut set).expect("hashes");
        as_set(&mut set);
        set
    }

    /// Components of all pairs that are alike, and those pairs with their similarity, found without sketches.
    fn by_comparing_all(texts: &Texts) -> (Vec<u32>, Vec<(u32, u32, f64)>) {
        let sets: Vec<Vec<u64>> = (0..texts.count()).map(|item| set(texts, item)).collect();
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
        let scratch = tempfile::tempdir().expect("folder");
        let edges = std::sync::Mutex::new(Vec::new());
        let join = |a, b| edges.lock().expect("lock").push((a, b));
        let (found, effort) =
            search_within(&texts, &likeness(), Limits::of(1 << 30), scratch.path(), &join).expect("search");
        let edges = edges.into_inner().expect("lock");
        assert_eq!(edges.len() as u64, effort.alike);
        for (a, b) in edges {
            assert!(jaccard(&set(&texts, a), &set(&texts, b)) >= likeness().threshold, "{a} {b}");
            assert_eq!(texts.group(a), texts.group(b));
        }
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
        let expected = named(&texts, &found(&texts, Limits::of(1 << 30), 1), &order);
        let all = [(Limits::of(1 << 30), 2), (TIGHT, 5), (TIGHT, 1)];
        for (turn, (limits, threads)) in all.into_iter().enumerate() {
            let mut order = order.clone();
            order.sort_by_cached_key(|at| *blake3::hash(format!("{turn} {at}").as_bytes()).as_bytes());
            let shuffled = Texts(order.iter().map(|&at| texts.0[at].clone()).collect());
            assert_eq!(named(&shuffled, &found(&shuffled, limits, threads), &order), expected, "{turn}");
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
        assert_eq!(found(&texts, Limits::of(1 << 30), 2), [0, 1, 2, 3, 2]);
        assert_eq!(found(&Texts(vec![]), TIGHT, 2), [] as [u32; 0]);
    }

    /// They were all compared with each other, in every band.
    #[test]
    fn what_is_empty_meets_nobody() {
        let texts = Texts(vec![(0, String::new()); 100_000]);
        let scratch = tempfile::tempdir().expect("folder");
        let (found, effort) = search(&texts, &likeness(), 1 << 20, scratch.path()).expect("search");
        assert_eq!(effort, Effort::default());
        assert!(found.iter().enumerate().all(|(at, low)| at == *low as usize));
    }

    #[test]
    fn a_large_meeting_is_one_whoever_looks() {
        // Pairs are at about 0.65, so most meet and few are joined.
        let common = (0..300).map(|n| format!("w{n} ")).collect::<String>();
        let own = |at: u64| (0..30).map(|n| format!("own{} ", (at * 31 + n) % 9000)).collect::<String>();
        let texts = Texts((0..2 * MANY as u64).map(|at| (0, format!("{common}{}", own(at)))).collect());
        let (exact, _) = by_comparing_all(&texts);
        for threads in [1, 3] {
            let all = found(&texts, Limits::of(1 << 30), threads);
            let mut whole = std::collections::HashMap::new();
            for (found, exact) in all.iter().zip(&exact) {
                assert_eq!(*whole.entry(*found).or_insert(*exact), *exact, "strangers are together");
            }
            assert_eq!(all, found(&texts, TIGHT, 2));
        }
    }
}
