//! One step's gradient: several forward and backward passes that add up, whatever the split into micro-batches.

use std::collections::BTreeMap;
use std::time::Instant;

use tch::no_grad;

use super::model::Place;
use super::optimizer::broken_gradient;
use super::{Level, Model, device};
use finch_train::error::{Error, Result};
use finch_train::held_out::Chosen;
use finch_train::packs::Packs;
use finch_train::sequence::Sequence;

/// A step's gradient, in the model's buffer of gradients, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gradient {
    /// Weighted mean over the step's trained tokens, in nats.
    pub(crate) loss: f64,
    /// The sum of the trained tokens' weights; at 0 there is no gradient.
    pub(crate) weight: f64,
    /// Seconds by phase.
    pub(crate) seconds: Phases,
}

/// Seconds of the parts of forward and backward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Phases {
    /// Reading and moving data.
    pub(crate) data: f64,
    /// The layers' forward passes.
    pub(crate) forward: f64,
    /// The head, forward and backward.
    pub(crate) head: f64,
    /// The layers' backward passes.
    pub(crate) backward: f64,
}

impl Phases {
    /// Milliseconds by name, with those of the update.
    pub(crate) fn named(&self, optimizer: f64) -> BTreeMap<String, f64> {
        let Self { data, forward, head, backward } = *self;
        let names = ["data", "forward", "head", "backward", "optimizer"];
        let seconds = [data, forward, head, backward, optimizer];
        names.into_iter().zip(seconds).map(|(name, seconds)| (name.to_owned(), seconds * 1e3)).collect()
    }
}

/// Computes the gradient of the mean loss over the trained tokens of all `chosen` packs, `micro` packs at a time.
///
/// The mean is over the whole step: its divisor is known before the first pass, so a micro-batch with few trained
/// tokens does not count more than its tokens. Gradients add up in the weights' type: with bf16 weights the split
/// into micro-batches shows in the last bits of a bf16 number. Nothing comes back when `stop` says so between two
/// micro-batches: then what was added up is of no use.
pub(crate) fn accumulate(
    model: &Model,
    levels: &[Level],
    packs: &mut Packs,
    chosen: &[usize],
    micro: usize,
    stop: impl Fn() -> bool,
) -> Result<Option<Gradient>> {
    let weight = |pack: &usize| -> f64 {
        packs.all()[*pack].documents.iter().map(|document| document.trained as f64 * document.weight).sum()
    };
    let divisor: f64 = chosen.iter().map(weight).sum();
    let mut gradient = Gradient { loss: 0.0, weight: divisor, seconds: Phases::default() };
    if divisor <= 0.0 {
        // Every example of the step has weight 0: nothing to learn from, and no mean.
        return Ok(Some(gradient));
    }
    for group in chosen.chunks(micro.max(1)) {
        if stop() {
            return Ok(None);
        }
        let started = Instant::now();
        let mut sequence = Sequence::default();
        for &pack in group {
            packs.append(pack, &mut sequence)?;
        }
        gradient.seconds.data += started.elapsed().as_secs_f64();
        gradient.loss += add(model, levels, &sequence, divisor, &mut gradient.seconds)?;
    }
    Ok(Some(gradient))
}

/// Adds the gradient of one sequence's part of a mean; that part.
pub(crate) fn add(
    model: &Model,
    levels: &[Level],
    sequence: &Sequence,
    divisor: f64,
    seconds: &mut Phases,
) -> Result<f64> {
    no_grad(|| {
        let mut clock = Clock::start(model);
        let segments = model.segments(sequence);
        clock.lap(&mut seconds.data);
        let (states, passed) = model.states(&segments, Some(levels))?;
        clock.lap(&mut seconds.forward);
        let loss = model.head.loss(&states, &segments.targets, &segments.weights, Some(divisor));
        drop(states);
        clock.lap(&mut seconds.head);
        if let (Some(passed), Some(dstates)) = (passed, loss.dstates) {
            model.backward(passed, dstates, &segments)?;
        }
        clock.lap(&mut seconds.backward);
        Ok(loss.sum.double_value(&[]) / divisor)
    })
}

/// Wall time between moments at which the device has done what it was told.
struct Clock<'a> {
    model: &'a Model,
    last: Instant,
}

impl<'a> Clock<'a> {
    fn start(model: &'a Model) -> Self {
        Self { model, last: Instant::now() }
    }

    fn lap(&mut self, sum: &mut f64) {
        device::wait(self.model.device);
        let now = Instant::now();
        *sum += (now - self.last).as_secs_f64();
        self.last = now;
    }
}

/// The error of a step whose loss or gradient is not finite: where it shows first, and with which examples.
pub(crate) fn not_finite(
    model: &Model,
    packs: &mut Packs,
    chosen: &[usize],
    step: u64,
    (loss, norm): (f64, f64),
    hint: String,
) -> Result<Error> {
    let (what, value) = if loss.is_finite() { ("the gradient", norm) } else { ("the loss", loss) };
    let value = if value.is_nan() { "NaN".to_owned() } else { value.to_string() };
    for &pack in chosen {
        let mut sequence = Sequence::default();
        packs.append(pack, &mut sequence)?;
        let Some(first) = first_broken(model, &sequence)? else { continue };
        let examples = named(packs, &[pack]);
        return Ok(Error::NotFinite { step, what, value, first, examples, hint });
    }
    let first = match broken_gradient(&model.parameters) {
        Some(name) => format!(", first in the gradient of `{name}`"),
        None => " in the sum of squares of the gradient".to_owned(),
    };
    let examples = named(packs, chosen);
    Ok(Error::NotFinite { step, what, value, first, examples, hint })
}

/// The error of a held-out example whose loss is not finite after `done` steps.
pub(crate) fn not_finite_held_out(
    model: &Model,
    packs: &mut Packs,
    example: Chosen,
    done: u64,
    hint: String,
) -> Result<Error> {
    let mut sequence = Sequence::default();
    packs.append_document(example.pack, example.document, &mut sequence)?;
    let first = first_broken(model, &sequence)?.unwrap_or_default();
    let id = packs.all()[example.pack].documents[example.document].example_id.clone();
    let (what, value) = ("the held-out loss", "NaN or infinite".to_owned());
    Ok(Error::NotFinite { step: done, what, value, first, examples: vec![id], hint })
}

/// Where a forward pass first yields a number that is none, in words.
fn first_broken(model: &Model, sequence: &Sequence) -> Result<Option<String>> {
    let layers = model.shape.layers();
    let mut first = None;
    let loss = no_grad(|| -> Result<f64> {
        let segments = model.segments(sequence);
        let (states, _) = model.watched(&segments, None, |place, x| {
            if first.is_none() && x.isfinite().all().int64_value(&[]) == 0 {
                first = Some(place);
            }
        })?;
        Ok(model.head.loss(&states, &segments.targets, &segments.weights, None).sum.double_value(&[]))
    })?;
    Ok(match first {
        Some(Place::Embedding) => Some(", first in the embedding".to_owned()),
        Some(Place::Layer(layer)) => Some(format!(", first in layer {layer} of {layers}")),
        Some(Place::Norm) => Some(", first in the last norm".to_owned()),
        None => (!loss.is_finite()).then(|| ", first in the head".to_owned()),
    })
}

/// The examples of packs, shortened where they are many.
fn named(packs: &Packs, chosen: &[usize]) -> Vec<String> {
    const SHOWN: usize = 16;
    let documents = chosen.iter().flat_map(|&pack| &packs.all()[pack].documents);
    let mut names: Vec<String> = documents.map(|document| document.example_id.clone()).collect();
    if names.len() > SHOWN {
        let more = names.len() - SHOWN;
        names.truncate(SHOWN);
        names.push(format!("and {more} more"));
    }
    names
}
