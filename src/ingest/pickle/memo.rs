//! The memo: nodes that a pickle mentions again.
//!
//! Sharing and cycles come through here. It must not let a number of the pickle size a table: protocol 0 may
//! call its first entry 2^63.

use std::collections::HashMap;

/// Nodes by the numbers that the pickle gave them. A writer counts up, so nearly all are in the vector; the
/// map is for those that jump, whose numbers must not size anything.
#[derive(Default)]
pub(super) struct Memo {
    dense: Vec<u32>,
    sparse: HashMap<u64, u32>,
}

impl Memo {
    pub(super) fn len(&self) -> u64 {
        (self.dense.len() + self.sparse.len()) as u64
    }

    pub(super) fn put(&mut self, key: u64, id: u32) {
        let next = self.dense.len() as u64;
        if key < next {
            self.dense[key as usize] = id;
        } else if key == next {
            self.sparse.remove(&key);
            self.dense.push(id);
        } else {
            self.sparse.insert(key, id);
        }
    }

    pub(super) fn get(&self, key: u64) -> Option<u32> {
        let dense = usize::try_from(key).ok().and_then(|key| self.dense.get(key));
        dense.or_else(|| self.sparse.get(&key)).copied()
    }
}
