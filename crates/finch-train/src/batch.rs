//! Which packs make up a step: a pure function of the data's digest, the seed and the step.
//!
//! Each pass over the data has its own order, by hash. Nothing here is drawn from a generator that could be
//! restored wrongly, so a resumed training sees the packs that it would have seen.

use finch_core::training::{Batch, Config, Length};
use finch_core::{Code, Digest, Kind};

use crate::error::{Error, Result};
use crate::packs::Packs;

/// A training pack, as far as batches depend on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub pack_id: String,
    /// Examples in it.
    pub examples: u64,
}

/// The steps of a training.
#[derive(Clone, Debug)]
pub struct Batches {
    items: Vec<Item>,
    data: Digest,
    seed: u64,
    batch: Batch,
    length: Length,
    /// The pass that was asked for last, because steps are asked for in order.
    current: Option<Pass>,
}

/// One pass over the data, cut into steps.
#[derive(Clone, Debug)]
struct Pass {
    epoch: u64,
    first_step: u64,
    steps: Vec<Vec<usize>>,
}

/// The packs of one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The pass, from 0.
    pub epoch: u64,
    /// Indices into the items.
    pub packs: Vec<usize>,
}

impl Batches {
    /// The batches of a training over a dataset's training packs, in the order of [`Packs::train`].
    pub fn of(config: &Config, packs: &Packs) -> Result<Self> {
        let usage = |(key, reason): (&str, String)| Error::Usage(format!("`{key}` {reason}"));
        let items: Vec<Item> = packs
            .train()
            .into_iter()
            .map(|pack| Item {
                pack_id: packs.all()[pack].pack_id.clone(),
                examples: packs.all()[pack].documents.len() as u64,
            })
            .collect();
        let documents = || packs.all().iter().filter(|pack| pack.is_train()).flat_map(|pack| &pack.documents);
        let reason = match items.is_empty() {
            true => Some("no pack is of the split `train`"),
            // A loss of nothing is 0, and would look like a success.
            false => {
                documents().all(|document| document.weight == 0.0).then_some("every example has the weight 0")
            }
        };
        if let Some(reason) = reason {
            return Err(Error::Data {
                place: format!("`{}`", packs.folder().display()),
                reason: reason.to_owned(),
                code: Code::NothingToTrain,
                hint: Some(
                    "see what the split left: `SELECT split, count(*) FROM packs GROUP BY 1`".to_owned(),
                ),
            });
        }
        let (batch, length) = (config.batch().map_err(usage)?, config.length().map_err(usage)?);
        Ok(Self::new(items, packs.digest(), config.seed, batch, length))
    }

    /// Batches over packs; there must be at least one pack.
    pub fn new(items: Vec<Item>, data: Digest, seed: u64, batch: Batch, length: Length) -> Self {
        Self { items, data, seed, batch, length, current: None }
    }

    /// Steps in all.
    pub fn steps(&self) -> u64 {
        match self.length {
            Length::Steps(steps) => steps,
            Length::Epochs(epochs) => (0..epochs).map(|epoch| self.cut(epoch).len() as u64).sum(),
        }
    }

    /// The packs of a step, from 0.
    pub fn step(&mut self, step: u64) -> Step {
        let mut pass = match self.current.take() {
            Some(pass) if pass.first_step <= step => pass,
            _ => Pass { epoch: 0, first_step: 0, steps: self.cut(0) },
        };
        while step >= pass.first_step + pass.steps.len() as u64 {
            let epoch = pass.epoch + 1;
            pass =
                Pass { epoch, first_step: pass.first_step + pass.steps.len() as u64, steps: self.cut(epoch) };
        }
        let packs = pass.steps[(step - pass.first_step) as usize].clone();
        let epoch = pass.epoch;
        self.current = Some(pass);
        Step { epoch, packs }
    }

    /// The tokens that all steps see, where `tokens` gives those of a pack. Exact for a hundred thousand steps; the
    /// steps after those are taken to be like them.
    pub fn tokens(&mut self, tokens: impl Fn(usize) -> u64) -> f64 {
        const COUNTED: u64 = 100_000;
        let steps = self.steps();
        let counted = steps.min(COUNTED);
        let seen: f64 = (0..counted)
            .map(|step| self.step(step).packs.iter().map(|&pack| tokens(pack) as f64).sum::<f64>())
            .sum();
        seen * (steps as f64 / counted.max(1) as f64)
    }

    /// The packs that the steps reach, each once.
    pub fn reached(&self) -> Vec<usize> {
        let first = self.cut(0);
        match self.length {
            Length::Steps(steps) if steps < first.len() as u64 => first[..steps as usize].concat(),
            _ => (0..self.items.len()).collect(),
        }
    }

    /// The order of packs in a pass.
    fn order(&self, epoch: u64) -> Vec<usize> {
        let mut keyed: Vec<(Digest, usize)> = self
            .items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let fields =
                    Kind::Choice.fields().text("batch order").digest(self.data).int(self.seed).int(epoch);
                (fields.text(&item.pack_id).finish(), index)
            })
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, index)| index).collect()
    }

    /// A pass cut into steps. With `Examples(n)`, step k ends with the pack that brings the pass to (k + 1) n
    /// examples, so a step's surplus is the next one's deficit and the average is n.
    fn cut(&self, epoch: u64) -> Vec<Vec<usize>> {
        let order = self.order(epoch);
        match self.batch {
            Batch::Packs(packs) => {
                order.chunks(usize::try_from(packs).unwrap_or(usize::MAX)).map(<[usize]>::to_vec).collect()
            }
            Batch::Examples(examples) => {
                let (mut steps, mut step, mut seen) = (Vec::new(), Vec::new(), 0u64);
                for index in order {
                    step.push(index);
                    seen += self.items[index].examples;
                    if seen >= (steps.len() as u64 + 1).saturating_mul(examples) {
                        steps.push(std::mem::take(&mut step));
                    }
                }
                if !step.is_empty() {
                    steps.push(step);
                }
                steps
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_those_of_the_steps_and_a_pass_ends_with_a_short_one() {
        let item = |n: u64| Item { pack_id: n.to_string(), examples: 1 };
        let items: Vec<Item> = (0..5).map(item).collect();
        let data = Digest::of_bytes(b"data");
        let mut batches = Batches::new(items, data, 0, Batch::Packs(4), Length::Steps(3));
        // Steps of 4, 1 and 4 packs.
        assert_eq!(batches.tokens(|_| 10), 90.0);
    }

    fn batches(seed: u64, batch: Batch, length: Length) -> Batches {
        let items = (0..50).map(|i| Item { pack_id: format!("pack {i}"), examples: 1 + i % 7 }).collect();
        Batches::new(items, Kind::Rows.of_text("data"), seed, batch, length)
    }

    fn all(mut batches: Batches) -> Vec<Step> {
        (0..batches.steps()).map(|step| batches.step(step)).collect()
    }

    #[test]
    fn every_pass_sees_every_pack_once_in_its_own_order() {
        for batch in [Batch::Packs(8), Batch::Examples(16), Batch::Examples(1)] {
            let steps = all(batches(1, batch, Length::Epochs(2)));
            let pass = |epoch| -> Vec<usize> {
                steps.iter().filter(|step| step.epoch == epoch).flat_map(|step| step.packs.clone()).collect()
            };
            assert_ne!(pass(0), pass(1));
            for epoch in 0..2 {
                let mut packs = pass(epoch);
                packs.sort_unstable();
                assert_eq!(packs, (0..50).collect::<Vec<_>>());
            }
            assert!(steps.iter().all(|step| !step.packs.is_empty()));
        }
    }

    #[test]
    fn a_step_asked_for_alone_is_the_one_in_its_place() {
        let together = all(batches(1, Batch::Examples(16), Length::Steps(40)));
        assert!(together.last().expect("steps").epoch > 1, "the test must cross passes");
        for step in [39, 0, 17, 16] {
            let mut alone = batches(1, Batch::Examples(16), Length::Steps(40));
            assert_eq!(alone.step(step), together[step as usize]);
        }
    }

    #[test]
    fn few_steps_reach_few_packs() {
        assert_eq!(batches(1, Batch::Packs(8), Length::Steps(3)).reached().len(), 24);
        assert_eq!(batches(1, Batch::Packs(8), Length::Steps(7)).reached().len(), 50);
        assert_eq!(batches(1, Batch::Examples(9), Length::Epochs(1)).reached().len(), 50);
    }

    #[test]
    fn seed_and_data_decide_the_order() {
        let first = |mut batches: Batches| batches.step(0).packs;
        let here = batches(1, Batch::Packs(50), Length::Epochs(1));
        let mut other = here.clone();
        other.data = Kind::Rows.of_text("other data");
        assert_ne!(first(here.clone()), first(other));
        assert_ne!(first(here), first(batches(2, Batch::Packs(50), Length::Epochs(1))));
    }

    #[test]
    fn steps_hold_the_wanted_examples_on_average() {
        let batches = batches(1, Batch::Examples(20), Length::Epochs(1));
        let total: u64 = batches.items.iter().map(|item| item.examples).sum();
        assert_eq!(batches.steps(), total.div_ceil(20));
        let items = batches.items.clone();
        let mut seen = 0;
        for (k, step) in all(batches).iter().enumerate() {
            seen += step.packs.iter().map(|&pack| items[pack].examples).sum::<u64>();
            assert!(seen.abs_diff((20 * (k as u64 + 1)).min(total)) < 7, "step {k} ends at {seen}");
        }
    }
}
