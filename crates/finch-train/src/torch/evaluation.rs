//! Held-out losses: by example, by task, and on request by token.

use std::collections::BTreeMap;
use std::time::Instant;

use finch_core::training::{Config, DType, Event, OutcomeLoss, TaskLoss, files};
use tch::no_grad;

use super::weights::{Trained, Weights};
use super::{Model, device, step, torch};
use finch_train::architecture::Architecture;
use finch_train::cli;
use finch_train::error::{Error, Result};
use finch_train::held_out::{self, Chosen, NOT_TRAINED};
use finch_train::log::{by_outcome, by_task, say};
use finch_train::losses::{ExampleLoss, TokenLosses};
use finch_train::packs::{Pack, Packs};
use finch_train::sequence::Sequence;
use finch_train::tokenizer;

/// Losses at one point of training.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Each example's loss.
    pub(crate) examples: Vec<ExampleLoss>,
    /// The same, as the event that is logged.
    pub(crate) event: finch_core::training::Eval,
    /// Tokens that went through the model.
    pub(crate) tokens: u64,
}

/// What there is to measure.
pub(crate) struct Work<'a> {
    pub(crate) model: &'a Model,
    pub(crate) packs: &'a mut Packs,
    pub(crate) chosen: &'a [Chosen],
    /// Tokens that go through the model at a time, at least an example.
    pub(crate) tokens: usize,
    /// Steps done.
    pub(crate) step: u64,
}

/// Measures examples; an example's loss does not depend on its neighbours. Nothing comes back when `stop` says so
/// before the end.
pub(crate) fn measure(
    work: Work<'_>,
    mut by_token: Option<&mut TokenLosses>,
    stop: impl Fn() -> bool,
) -> Result<Option<Measured>> {
    let Work { model, packs, chosen, tokens, step } = work;
    let started = Instant::now();
    let mut examples = Vec::new();
    let mut seen = 0;
    for group in held_out::group(packs.all(), chosen, tokens) {
        if stop() {
            return Ok(None);
        }
        let mut sequence = Sequence::default();
        for example in &group {
            packs.append_document(example.pack, example.document, &mut sequence)?;
        }
        seen += sequence.ids.len() as u64;
        let by_row = no_grad(|| -> Result<tch::Tensor> {
            let segments = model.segments(&sequence);
            let (states, _) = model.states(&segments, None)?;
            Ok(model.head.loss(&states, &segments.targets, &segments.weights, None).by_row)
        })?;
        let by_row: Vec<f32> = Vec::try_from(&by_row.to_device(tch::Device::Cpu)).map_err(torch)?;
        let mut first = 0;
        for (owner, example) in group.iter().enumerate() {
            // Rows are in the order of their documents.
            let count = sequence.owners[first..].iter().take_while(|known| **known == owner).count();
            let rows = first..first + count;
            first += count;
            let document = &packs.all()[example.pack].documents[example.document];
            let sum: f64 = by_row[rows.clone()].iter().map(|&loss| f64::from(loss)).sum();
            examples.push(ExampleLoss {
                example_id: document.example_id.clone(),
                step,
                tokens: count as u64,
                loss: sum / count.max(1) as f64,
            });
            if let Some(file) = by_token.as_mut() {
                let start: i64 = sequence.lengths[..owner].iter().sum();
                let tokens: Vec<(i32, i32, f64)> = rows
                    .map(|row| {
                        let position = sequence.rows[row] + 1 - start;
                        (position as i32, sequence.targets[row] as i32, f64::from(by_row[row]))
                    })
                    .collect();
                file.add(&document.example_id, &tokens)?;
            }
        }
    }
    let event = summed(packs, chosen, &examples, step, started.elapsed().as_secs_f64());
    Ok(Some(Measured { examples, event, tokens: seen }))
}

/// A sum of losses.
#[derive(Clone, Copy, Default)]
struct Sum {
    loss: f64,
    tokens: u64,
    examples: u64,
}

impl Sum {
    fn add(&mut self, example: &ExampleLoss) {
        self.loss += example.loss * example.tokens as f64;
        self.tokens += example.tokens;
        self.examples += 1;
    }

    fn mean(&self) -> f64 {
        self.loss / self.tokens.max(1) as f64
    }
}

/// Means over tokens: by split and task, by split and outcome, and over all.
fn summed(
    packs: &Packs,
    chosen: &[Chosen],
    examples: &[ExampleLoss],
    step: u64,
    seconds: f64,
) -> finch_core::training::Eval {
    let mut all = Sum::default();
    let (mut tasks, mut outcomes) = (BTreeMap::<_, Sum>::new(), BTreeMap::<_, Sum>::new());
    for (place, example) in chosen.iter().zip(examples) {
        let pack = &packs.all()[place.pack];
        let document = &pack.documents[place.document];
        let split = pack.split.clone().unwrap_or_default();
        all.add(example);
        tasks.entry((split.clone(), document.task.clone())).or_default().add(example);
        if let Some(outcome) = &document.outcome {
            outcomes.entry((split, outcome.clone())).or_default().add(example);
        }
    }
    finch_core::training::Eval {
        step,
        loss: all.mean(),
        tasks: tasks
            .into_iter()
            .map(|((split, task), sum)| TaskLoss {
                task,
                split,
                loss: sum.mean(),
                examples: sum.examples,
                tokens: sum.tokens,
            })
            .collect(),
        outcomes: outcomes
            .into_iter()
            .map(|((split, outcome), sum)| OutcomeLoss {
                outcome,
                split,
                loss: sum.mean(),
                examples: sum.examples,
                tokens: sum.tokens,
            })
            .collect(),
        seconds,
    }
}

/// `finch-train eval`.
pub(crate) fn run(command: &cli::Eval) -> Result<()> {
    let machine = device::set_up(command.device, command.threads, false)?;
    let shape = Architecture::read(&command.model.join(files::CONFIG))?;
    let mut packs = Packs::open(&command.data)?;
    packs.fits(&shape)?;
    let wanted = |pack: &Pack| match command.split.as_deref() {
        Some("train") => pack.is_train(),
        Some(split) => pack.split.as_deref() == Some(split),
        None => NOT_TRAINED(pack),
    };
    let chosen = held_out::choose(packs.all(), wanted, command.tokens, command.seed);
    if chosen.is_empty() {
        let which =
            command.split.as_deref().map_or("held out".to_owned(), |split| format!("of the split `{split}`"));
        return Err(Error::Usage(format!("no example is {which}")));
    }
    // A model that knows other tokens by these ids would get a loss, and it would mean nothing.
    tokenizer::companions(packs.folder(), Some(&command.model))?;
    let dtype = stored_dtype(&shape);
    let weights = Weights::load(&command.model, shape, dtype, machine.device, &Trained::Nothing, 0)?;
    let model = Model::new(weights)?;
    let tokens = packs.longest();
    let mut file = command.per_token.as_deref().map(TokenLosses::create).transpose()?;
    let work = Work { model: &model, packs: &mut packs, chosen: &chosen, tokens, step: 0 };
    // A signal ends this command at once: there is nothing to save.
    let Some(measured) = measure(work, file.as_mut(), || false)? else { return Ok(()) };
    if let Some(broken) = measured.examples.iter().position(|row| !row.loss.is_finite()) {
        let hint = "the model gives it: look at its weights".to_owned();
        return Err(step::not_finite_held_out(&model, &mut packs, chosen[broken], 0, hint)?);
    }
    if let Some(file) = file {
        file.finish()?;
    }
    let eval = measured.event;
    let (tasks, outcomes) = (by_task(&eval), by_outcome(&eval));
    let words = format!("loss   {:.4} nats per token\n{tasks}{outcomes}", eval.loss);
    let event = Event::Eval(eval);
    let line = serde_json::to_string(&event)
        .map_err(|source| Error::io("write", "standard output")(std::io::Error::other(source)))?;
    say(&if command.json { line + "\n" } else { words });
    Ok(())
}

/// The type that a checkpoint says it is of.
fn stored_dtype(shape: &Architecture) -> DType {
    let named = shape.config.get("dtype").or_else(|| shape.config.get("torch_dtype"));
    match named.and_then(serde_json::Value::as_str) {
        Some("bfloat16") => DType::Bf16,
        _ => DType::F32,
    }
}

/// The examples that a training evaluates.
pub(crate) fn chosen(packs: &Packs, config: &Config) -> Vec<Chosen> {
    held_out::choose(packs.all(), NOT_TRAINED, config.eval_tokens, config.seed)
}
