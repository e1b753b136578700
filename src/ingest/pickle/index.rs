//! Text keys of large dicts, so that a look-up in one is no search.
//!
//! A hostile pickle gives a million objects one state of a million entries, and a reader that asks each for
//! its `id` would never finish. A text is hashed once however often it is mentioned, for the same reason. It
//! must not hold the small dicts, which are nearly all there are: those are searched.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{Node, Pickle};

/// Dicts of so many entries are searched, which costs a few comparisons of lengths.
pub(super) const SEARCHED: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Index<'a> {
    /// Each text that is a key of a large dict, and the first node that spells it.
    spelled: HashMap<Cow<'a, [u8]>, u32>,
    /// The last value by the node that holds the entries and the node that spells the key.
    values: HashMap<(u32, u32), u32>,
}

impl<'a> Index<'a> {
    pub(super) fn new(pickle: &Pickle<'a>) -> Self {
        let mut index = Self::default();
        let mut first_spelling = HashMap::new();
        for holder in pickle.walk() {
            if !holder.is_large() {
                continue;
            }
            for (key, value) in holder.own_entries() {
                let spelling = *first_spelling.entry(key.id).or_insert_with(|| {
                    let text = spelling(pickle, key.id)?;
                    Some(*index.spelled.entry(text).or_insert(key.id))
                });
                if let Some(spelling) = spelling {
                    index.values.insert((holder.id, spelling), value.id);
                }
            }
        }
        index
    }

    /// The value of a text key in a large dict.
    pub(super) fn get(&self, holder: u32, key: &str) -> Option<u32> {
        let spelling = self.spelled.get(key.as_bytes())?;
        self.values.get(&(holder, *spelling)).copied()
    }
}

/// The text of a node as bytes that compare equal where the texts are.
pub(super) fn spelling<'a>(pickle: &Pickle<'a>, id: u32) -> Option<Cow<'a, [u8]>> {
    match pickle.nodes[id as usize] {
        Node::Text(span) | Node::Str(span) => Some(Cow::Borrowed(pickle.slice(span))),
        Node::Escaped(span) => Some(Cow::Owned(super::text::unescape_text(pickle.slice(span)).into_bytes())),
        Node::Quoted(span) => Some(Cow::Owned(super::text::unescape_bytes(pickle.slice(span)))),
        _ => None,
    }
}
