//! Programs of a dataset at hand, and which of them are almost the same.

use std::collections::HashMap;
use std::path::Path;

use arrow::array::AsArray;
use finch_core::Digest;

use super::Context;
use crate::error::Result;
use crate::near::{Items, Likeness, search, tokens};
use crate::shelf::{Shelf, Texts};
use crate::sql::{Width, views};

/// A text that is none.
pub(super) const NONE: u32 = u32::MAX;

/// A table of the input that holds texts by id.
#[derive(Clone, Copy)]
pub(super) enum Source {
    Programs,
    Texts,
}

/// Copies the texts with these ids to a shelf, and puts their numbers in place of what stood there.
pub(super) fn copy(
    context: &Context<'_>,
    source: Source,
    wanted: &mut HashMap<Digest, u32>,
    shelf: &mut Shelf,
) -> Result<()> {
    wanted.values_mut().for_each(|number| *number = NONE);
    if wanted.is_empty() {
        return Ok(());
    }
    let query = match source {
        Source::Programs => "SELECT program_id, code FROM input.programs",
        Source::Texts => "SELECT text_id, text FROM input.texts",
    };
    let session = context.engine.session(Width::Wide);
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(query))?;
    session.each(query, &[], |batch| {
        let (ids, texts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        for (id, text) in ids.iter().zip(texts).filter_map(|(id, text)| id.zip(text)) {
            if let Some(number) = wanted.get_mut(&id.parse()?) {
                *number = shelf.add(text)?;
            }
        }
        Ok(())
    })
}

/// Whole programs, of all tasks, in the order of their ids.
pub(super) struct Programs<'a> {
    texts: &'a Texts,
    order: Vec<(Digest, u32)>,
    ngram: usize,
}

impl<'a> Programs<'a> {
    /// The programs of these ids, with the numbers of their texts.
    pub(super) fn new(texts: &'a Texts, numbers: &HashMap<Digest, u32>, ngram: usize) -> Self {
        let mut order: Vec<(Digest, u32)> = numbers.iter().map(|(id, number)| (*id, *number)).collect();
        order.sort_unstable();
        Self { texts, order, ngram }
    }

    /// Each program with the lowest of those that it is linked with, in the order of ids.
    pub(super) fn clusters(
        &self,
        likeness: &Likeness,
        budget: u64,
        folder: &Path,
    ) -> Result<Vec<(Digest, Digest)>> {
        let (lowest, _) = search(self, likeness, budget, folder)?;
        let id = |place: u32| self.order[place as usize].0;
        Ok((0..).zip(lowest).map(|(place, low)| (id(place), id(low))).collect())
    }
}

impl Items for Programs<'_> {
    fn count(&self) -> u32 {
        self.order.len() as u32
    }

    fn group(&self, _: u32) -> u32 {
        0
    }

    fn hashes(&self, item: u32, out: &mut Vec<u64>) -> Result<()> {
        whole(self.texts, self.order[item as usize].1, self.ngram, out)
    }
}

/// The shingles of a whole text; none of one that is not there.
pub(super) fn whole(texts: &Texts, number: u32, ngram: usize, out: &mut Vec<u64>) -> Result<()> {
    if number != NONE {
        let mut words = Vec::new();
        tokens::tokens(&texts.get(number)?, &mut words);
        tokens::shingles(&words, ngram, 0, out);
    }
    Ok(())
}
