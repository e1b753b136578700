//! Packing: which examples share a sequence, so that little of it stays empty.
//!
//! Best-fit decreasing: longest first, each into the fullest bin that still has room. An example is never cut,
//! and the result depends on lengths and keys alone, not on the order in which they come.

use std::collections::BTreeSet;

/// Packs items of a length and a unique key into bins of a capacity; the bins hold indices into `items`.
///
/// Items are placed by length, longest first, and by key among equals; ties between bins go to the oldest. Bins come
/// in the order of their opening, and indices in the order of their placing. An item that is longer than the capacity
/// gets a bin of its own: whoever cannot have that refuses it before.
pub fn pack<K: Ord>(items: &[(u64, K)], capacity: u64) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&a, &b| items[b].0.cmp(&items[a].0).then_with(|| items[a].1.cmp(&items[b].1)));
    let mut bins: Vec<Vec<usize>> = Vec::new();
    // Open bins by the room that is left and by age, so that the first one with enough room is the best fit.
    let mut open: BTreeSet<(u64, usize)> = BTreeSet::new();
    for item in order {
        let length = items[item].0;
        let best = open.range((length, 0)..).next().copied();
        let (room, bin) = match best {
            Some(best) => {
                open.remove(&best);
                bins[best.1].push(item);
                best
            }
            None => {
                bins.push(vec![item]);
                (capacity, bins.len() - 1)
            }
        };
        let room = room.saturating_sub(length);
        if room > 0 {
            open.insert((room, bin));
        }
    }
    bins
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers of a fixed linear congruential generator (Knuth's MMIX constants), below `bound`.
    fn numbers(seed: u64, bound: u64, n: usize) -> Vec<u64> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        (0..n).map(|_| next()).collect()
    }

    fn items(lengths: &[u64]) -> Vec<(u64, usize)> {
        lengths.iter().copied().zip(0..).collect()
    }

    fn filled(items: &[(u64, usize)], bins: &[Vec<usize>]) -> Vec<u64> {
        bins.iter().map(|bin| bin.iter().map(|&item| items[item].0).sum()).collect()
    }

    #[test]
    fn every_item_is_in_one_bin_and_no_bin_is_too_full() {
        for seed in 0..20 {
            let lengths: Vec<u64> = numbers(seed, 1000, 500).iter().map(|length| length + 1).collect();
            let items = items(&lengths);
            let bins = pack(&items, 1000);
            let mut placed: Vec<usize> = bins.concat();
            placed.sort_unstable();
            assert_eq!(placed, (0..items.len()).collect::<Vec<_>>());
            let filled = filled(&items, &bins);
            assert!(filled.iter().all(|&sum| sum <= 1000));
            // No two bins could be one: the second of them would have been placed in the first.
            let mut least = filled.clone();
            least.sort_unstable();
            assert!(least.len() < 2 || least[0] + least[1] > 1000, "seed {seed}: {least:?}");
        }
    }

    #[test]
    fn few_bins_are_more_than_needed() {
        for (seed, bound) in [(1, 1000), (2, 500), (3, 100), (4, 900)] {
            let lengths: Vec<u64> = numbers(seed, bound, 2000).iter().map(|length| length + 1).collect();
            let bins = pack(&items(&lengths), 1000).len() as u64;
            let bound = lengths.iter().sum::<u64>().div_ceil(1000);
            // Best-fit decreasing needs at most 11/9 of the optimum, and on random lengths far less.
            assert!(bins >= bound && bins * 100 <= bound * 105, "seed {seed}: {bins} bins, at least {bound}");
        }
    }

    #[test]
    fn the_order_of_items_does_not_count() {
        let lengths = numbers(7, 300, 400);
        let forward: Vec<(u64, usize)> = items(&lengths);
        let backward: Vec<(u64, usize)> = forward.iter().rev().copied().collect();
        let keys = |items: &[(u64, usize)]| -> Vec<Vec<usize>> {
            pack(items, 512)
                .into_iter()
                .map(|bin| bin.into_iter().map(|item| items[item].1).collect())
                .collect()
        };
        assert_eq!(keys(&forward), keys(&backward));
    }

    #[test]
    fn bins_can_be_exactly_full_and_ties_go_to_the_oldest() {
        assert_eq!(pack(&items(&[4, 6, 10, 5, 5]), 10), [vec![2], vec![1, 0], vec![3, 4]]);
        assert_eq!(pack(&items(&[7, 7, 3]), 10), [vec![0, 2], vec![1]]);
        assert_eq!(pack(&items(&[2, 8, 5]), 10), [vec![1, 0], vec![2]], "the fullest bin that fits");
        assert_eq!(pack::<usize>(&[], 10), Vec::<Vec<usize>>::new());
    }

    #[test]
    fn an_item_that_fits_nowhere_is_alone() {
        assert_eq!(pack(&items(&[11, 1]), 10), [vec![0], vec![1]]);
    }
}
