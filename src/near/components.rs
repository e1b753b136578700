//! Components of a graph by union-find, on all threads.
//!
//! What is joined is the same whatever the order: each component is named by its lowest member.

use std::sync::atomic::{AtomicU32, Ordering};

/// Members from 0, each a component of its own at first.
pub struct Components {
    /// For each member one of its component that is not higher; itself for the lowest.
    lower: Vec<AtomicU32>,
}

impl Components {
    /// So many members.
    pub fn new(members: u32) -> Self {
        Self { lower: (0..members).map(AtomicU32::new).collect() }
    }

    /// The lowest member that is known to be in the same component.
    pub fn lowest(&self, mut member: u32) -> u32 {
        loop {
            let lower = self.lower[member as usize].load(Ordering::Acquire);
            if lower == member {
                return member;
            }
            let next = self.lower[lower as usize].load(Ordering::Acquire);
            // Halves the way for whoever comes next; that another thread did it first is as well.
            let _ = self.lower[member as usize].compare_exchange_weak(
                lower,
                next,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            member = next;
        }
    }

    /// Whether two members are known to be in one component.
    pub fn together(&self, a: u32, b: u32) -> bool {
        self.lowest(a) == self.lowest(b)
    }

    /// Makes the components of two members one.
    pub fn join(&self, a: u32, b: u32) {
        let (mut a, mut b) = (a, b);
        loop {
            (a, b) = (self.lowest(a), self.lowest(b));
            let (low, high) = (a.min(b), a.max(b));
            let place = &self.lower[high as usize];
            if low == high || place.compare_exchange(high, low, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return;
            }
        }
    }

    /// For each member the lowest of its component.
    pub fn into_lowest(self) -> Vec<u32> {
        (0..self.lower.len() as u32).map(|member| self.lowest(member)).collect()
    }
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn a_component_is_named_by_its_lowest_member_whatever_the_order() {
        let edges: Vec<(u32, u32)> =
            (0..3000_u32).filter(|n| n % 7 != 0).map(|n| (n, (n * 37 + 11) % 3000)).collect();
        let expected = {
            let components = Components::new(3000);
            edges.iter().for_each(|&(a, b)| components.join(a, b));
            components.into_lowest()
        };
        assert!(
            expected.iter().enumerate().all(|(at, &low)| low as usize <= at && expected[low as usize] == low)
        );
        for _ in 0..20 {
            let components = Components::new(3000);
            edges.par_iter().rev().for_each(|&(a, b)| components.join(b, a));
            assert_eq!(components.into_lowest(), expected);
        }
    }
}
