//! One step's gradient: several forward and backward passes that add up, whatever the split into micro-batches.

use std::time::Instant;

use tch::no_grad;

use super::{AdamW, Head, Model, Segments};
use finch_train::error::{Error, Result};
use finch_train::held_out::Chosen;
use finch_train::packs::Packs;
use finch_train::sequence::Sequence;

/// A step's gradient, in the weights' `.grad`, and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gradient {
    /// Weighted mean over the step's trained tokens, in nats.
    pub(crate) loss: f64,
    /// The sum of the trained tokens' weights; at 0 there is no gradient.
    pub(crate) weight: f64,
    /// Seconds of reading and moving data.
    pub(crate) data: f64,
    /// Seconds of forward passes.
    pub(crate) forward: f64,
    /// Seconds of backward passes.
    pub(crate) backward: f64,
}

/// Computes the gradient of the mean loss over the trained tokens of all `chosen` packs, `micro` packs at a time.
///
/// The mean is over the whole step: its divisor is known before the first pass, so a micro-batch with few trained
/// tokens does not count more than its tokens. Gradients add up in the weights' type: with bf16 weights the split
/// into micro-batches shows in the last bits of a bf16 number.
pub(crate) fn accumulate(
    model: &Model,
    packs: &mut Packs,
    chosen: &[usize],
    micro: usize,
) -> Result<Gradient> {
    let weight = |pack: &usize| -> f64 {
        packs.all()[*pack].documents.iter().map(|document| document.trained as f64 * document.weight).sum()
    };
    let divisor: f64 = chosen.iter().map(weight).sum();
    let mut gradient = Gradient { loss: 0.0, weight: divisor, data: 0.0, forward: 0.0, backward: 0.0 };
    if divisor <= 0.0 {
        // Every example of the step has weight 0: nothing to learn from, and no mean.
        return Ok(gradient);
    }
    let head = Head::default();
    for group in chosen.chunks(micro.max(1)) {
        let started = Instant::now();
        let mut sequence = Sequence::default();
        for &pack in group {
            packs.append(pack, &mut sequence)?;
        }
        let segments = Segments::new(&sequence, &model.shape, model.device, model.kind);
        let read = Instant::now();
        let hidden = model.hidden(&segments);
        let loss = head.loss(model, &hidden, &segments, Some(divisor));
        gradient.loss += loss.sum.double_value(&[]) / divisor;
        let computed = Instant::now();
        if let Some(surrogate) = loss.surrogate {
            surrogate.backward();
        }
        gradient.data += (read - started).as_secs_f64();
        gradient.forward += (computed - read).as_secs_f64();
        gradient.backward += computed.elapsed().as_secs_f64();
    }
    Ok(gradient)
}

/// The error of a step whose loss or gradient is not finite: where it shows first, and with which examples.
pub(crate) fn not_finite(
    model: &Model,
    optimizer: &AdamW,
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
        let Some(first) = first_broken(model, &sequence) else { continue };
        let examples = named(packs, &[pack]);
        return Ok(Error::NotFinite { step, what, value, first, examples, hint });
    }
    let first = match optimizer.first_broken() {
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
    let first = first_broken(model, &sequence).unwrap_or_default();
    let id = packs.all()[example.pack].documents[example.document].example_id.clone();
    let (what, value) = ("the held-out loss", "NaN or infinite".to_owned());
    Ok(Error::NotFinite { step: done, what, value, first, examples: vec![id], hint })
}

/// Where a forward pass first yields a number that is none, in words.
fn first_broken(model: &Model, sequence: &Sequence) -> Option<String> {
    let segments = Segments::new(sequence, &model.shape, model.device, model.kind);
    let layers = model.shape.num_hidden_layers as usize;
    let mut first = None;
    let loss = no_grad(|| {
        let hidden = model.hidden_watched(&segments, |place, x| {
            if first.is_none() && x.isfinite().all().int64_value(&[]) == 0 {
                first = Some(place);
            }
        });
        Head::default().loss(model, &hidden, &segments, None).sum.double_value(&[])
    });
    match first {
        Some(0) => Some(", first in the embedding".to_owned()),
        Some(place) if place <= layers => Some(format!(", first in layer {} of {layers}", place - 1)),
        Some(_) => Some(", first in the last norm".to_owned()),
        None => (!loss.is_finite()).then(|| ", first in the head".to_owned()),
    }
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
