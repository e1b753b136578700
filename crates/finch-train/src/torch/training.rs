//! The loop: evaluate, step, evaluate, write the model; checkpoints between, and a clean stop on a signal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use finch_core::training::{
    Base, Best, Config, Event, Finish, Flops as Convention, NotFinite, Skipped, Start, Step, digest_of_base,
    files,
};
use finch_core::{Code, Digest, Kind};

use super::checkpoint::{self, Identity, Point, Resumed};
use super::evaluation::Work;
use super::finished::Finished;
use super::optimizer::{broken_weight, clip_scale, gradient_norm};
use super::step::accumulate;
use super::stop::Stop;
use super::weights::Weights;
use super::{AdamW, Model, device, evaluation, export, measure, step};
use finch_train::architecture::Architecture;
use finch_train::batch::Batches;
use finch_train::budget::{Budget, Flight};
use finch_train::cli;
use finch_train::error::{Error, Result};
use finch_train::flops::{self, Flops};
use finch_train::held_out::{self, Chosen};
use finch_train::log::{Log, Voice};
use finch_train::losses::{self, ExampleLoss};
use finch_train::packs::Packs;
use finch_train::{config, schedule, tokenizer};

/// Steps in a row that may be left out before a training ends all the same.
const MOST_SKIPPED: u64 = 10;

/// `finch-train run`.
pub(crate) fn run(command: &cli::Run) -> Result<()> {
    let config = config::read(&command.config)?;
    let machine = device::set_up(config.device, config.threads, config.deterministic)?;
    let shape = Architecture::of(&config.base)?;
    let mut packs = Packs::open(&command.data)?;
    packs.fits(&shape)?;
    let mut batches = Batches::of(&config, &packs)?;
    let base = match &config.base {
        Base::Checkpoint(folder) => Some(folder.as_path()),
        Base::Config { .. } => None,
    };
    // Read now what must be written at the end: a missing file should not cost a training.
    let companions = tokenizer::companions(packs.folder(), base)?;
    let carried = export::Carried::of(base, &shape)?;
    let out = command.out.as_path();
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let voice = if command.json { Voice::Json } else { Voice::Words };
    let identity = Identity::new(&config, base_digest(&config)?, packs.digest(), &machine.environment);
    let mut log = Log::open(&out.join(files::LOG), voice)?;
    if let Some(finished) = Finished::find(out, &identity)? {
        log.event(&Event::Start(finished.start))?;
        return log.event(&Event::Finish(Finish { already: true, ..finished.finish }));
    }
    let budget = budget(&config, &shape, &packs, machine.device)?;
    let train = packs.train();
    let chosen = evaluation::chosen(&packs, &config);
    let card = machine.device.is_cuda().then_some(machine.environment.device_name.as_str());
    let mut start = Start {
        parameters: shape.parameters(),
        trainable: budget.trainable,
        carried: carried.count() as u64,
        kept: budget.kept,
        flops: flops::convention(card),
        environment: machine.environment,
        steps: batches.steps(),
        resumed_from: None,
        data: packs.digest(),
        train: Packs::totals(train.iter().map(|&pack| &packs.all()[pack])),
        reached: Packs::totals(batches.reached().into_iter().map(|index| &packs.all()[train[index]])),
        held_out: held_out::totals(packs.all(), &chosen),
    };
    let flops = Flops::new(&shape, &config);
    let outcome = super::guarded(|| {
        let model = Model::new(Weights::begin(&config, shape, machine.device)?)?;
        let mut optimizer = AdamW::new(&model.parameters, &config);
        let Resumed { point, losses } =
            checkpoint::resume(out, &identity, &model.parameters, &mut optimizer)?;
        start.resumed_from = point.map(|point| point.step);
        let stop = Stop::listen()?;
        log.event(&Event::Start(start.clone()))?;
        let mut training = Training {
            started: Instant::now(),
            config: &config,
            identity: &identity,
            out,
            model,
            optimizer,
            budget: &budget,
            flops,
            convention: &start.flops,
            packs: &mut packs,
            chosen,
            log,
            losses,
            tokens_seen: 0,
            skipped: point.map_or(0, |point| point.skipped),
            saved: start.resumed_from,
            stop,
        };
        training.run(&mut batches, &train, start.clone(), &carried, &companions)
    });
    outcome.map_err(|error| match error.is_out_of_memory() {
        true => budget.refused(&error.to_string()),
        false => error,
    })
}

/// What the training will hold, and an error when it is known not to fit.
fn budget(config: &Config, shape: &Architecture, packs: &Packs, device: tch::Device) -> Result<Budget> {
    let flight = Flight::of(config, packs);
    let budget = Budget::new(config, shape, flight, device::plannable_memory(device), device.is_cuda());
    // The CPU's memory may be swapped or freed by others; a card's, and what a config says, is what it is.
    match budget.memory_bytes {
        Some(memory) if budget.fits == Some(false) && (device.is_cuda() || config.memory.is_some()) => {
            let there = memory as f64 / f64::from(1 << 30);
            Err(budget.refused(&format!("there are {there:.2} GiB of memory")))
        }
        _ => Ok(budget),
    }
}

/// What the base says, which must be what the config was written for.
fn base_digest(config: &Config) -> Result<Digest> {
    let digest = digest_of_base(&config.base)?;
    if config.base_digest.is_none_or(|wanted| wanted == digest) {
        return Ok(digest);
    }
    let (Base::Checkpoint(path) | Base::Config { config: path, .. }) = &config.base;
    Err(Error::Model {
        path: path.clone(),
        reason: "the base is not what it was when the config was written".to_owned(),
        code: Code::BadCheckpoint,
        hint: Some("`finch run` looks at it again".to_owned()),
    })
}

/// A training in progress.
struct Training<'a> {
    started: Instant,
    config: &'a Config,
    identity: &'a Identity,
    out: &'a Path,
    model: Model,
    optimizer: AdamW,
    budget: &'a Budget,
    flops: Flops,
    convention: &'a Convention,
    packs: &'a mut Packs,
    chosen: Vec<Chosen>,
    log: Log,
    losses: Vec<ExampleLoss>,
    tokens_seen: u64,
    /// Steps in a row that were left out.
    skipped: u64,
    /// The step of the last checkpoint.
    saved: Option<u64>,
    stop: Stop,
}

impl Training<'_> {
    fn run(
        &mut self,
        batches: &mut Batches,
        train: &[usize],
        start: Start,
        carried: &export::Carried,
        companions: &[(String, Vec<u8>)],
    ) -> Result<()> {
        let (config, steps) = (self.config, start.steps);
        let due = |every: u64, count: u64| every > 0 && count.is_multiple_of(every);
        // A checkpoint holds what was measured before its step; what is due after it comes first when it is resumed.
        for count in start.resumed_from.unwrap_or(0)..steps {
            if due(config.eval_every, count) || count == 0 {
                self.evaluate(count)?;
            }
            let batch = batches.step(count);
            let packs: Vec<usize> = batch.packs.iter().map(|&index| train[index]).collect();
            self.step(count, steps, batch.epoch, &packs)?;
            if due(config.checkpoint_every, count + 1) || count + 1 == steps {
                self.save(count + 1)?;
            }
            self.end_if_asked(count + 1)?;
        }
        self.evaluate(steps)?;
        export::write_model(self.out, &self.model, config, carried, companions)?;
        losses::write(&self.out.join(files::LOSSES), &self.losses)?;
        let (seconds, tokens_seen, best) = (self.started.elapsed(), self.tokens_seen, best(&self.losses, 0));
        let finish = |weights| Finish {
            step: steps,
            weights,
            best,
            seconds: seconds.as_secs_f64(),
            tokens_seen,
            memory: device::peak_memory(),
            already: false,
        };
        let finished = Finished::new(self.identity.clone(), start, finish, self.out)?;
        finished.write(self.out)?;
        self.log.event(&Event::Finish(finished.finish))
    }

    /// Measures the held-out examples after `done` steps, unless a checkpoint remembers them. A signal ends it.
    fn evaluate(&mut self, done: u64) -> Result<()> {
        if self.chosen.is_empty() || self.losses.iter().any(|row| row.step == done) {
            return Ok(());
        }
        let tokens = self.packs.longest();
        let (model, chosen) = (&self.model, self.chosen.as_slice());
        let work = Work { model, packs: self.packs, chosen, tokens, step: done };
        let Some(measured) = measure(work, None, || self.stop.asked().is_some())? else {
            return self.end_if_asked(done);
        };
        self.tokens_seen += measured.tokens;
        if !measured.event.loss.is_finite() {
            let broken = measured.examples.iter().position(|row| !row.loss.is_finite()).unwrap_or(0);
            let hint = match done {
                0 => "the base gives it by itself, before any step: look at its weights".to_owned(),
                _ => self.advice(),
            };
            return Err(step::not_finite_held_out(&self.model, self.packs, self.chosen[broken], done, hint)?);
        }
        self.losses.extend(measured.examples);
        self.log.event(&Event::Eval(measured.event))?;
        let best = best(&self.losses, 1).is_some_and(|best| best.step == done);
        if self.config.keep_best && best && done > 0 && self.saved != Some(done) {
            self.save(done)?;
        }
        Ok(())
    }

    /// One optimizer step over some packs.
    fn step(&mut self, step: u64, steps: u64, epoch: u64, chosen: &[usize]) -> Result<()> {
        let started = Instant::now();
        let micro = usize::try_from(self.config.micro_packs).unwrap_or(usize::MAX);
        let stop = || self.stop.asked().is_some();
        let gradient = accumulate(&self.model, &self.budget.levels, self.packs, chosen, micro, stop)?;
        let Some(gradient) = gradient else { return self.end_if_asked(step) };
        let updating = Instant::now();
        let norm = gradient_norm(&self.model.parameters);
        let batch = batch_digest(self.packs, chosen);
        if !gradient.loss.is_finite() || !norm.is_finite() {
            let (values, hint) = ((gradient.loss, norm), self.advice());
            let error = step::not_finite(&self.model, self.packs, chosen, step + 1, values, hint)?;
            return self.leave_out(error, Skipped { step: step + 1, epoch, reason: String::new(), batch });
        }
        self.skipped = 0;
        let lr = schedule::rate(self.config.schedule, self.config.lr, step, steps);
        // Where every example has the weight 0 there is nothing to learn, and no reason to decay.
        if gradient.weight > 0.0 {
            self.optimizer.update(&self.model.parameters, lr, clip_scale(norm, self.config.clip))?;
        }
        device::wait(self.model.device);
        let packs = || chosen.iter().map(|&pack| &self.packs.all()[pack]);
        let totals = Packs::totals(packs());
        let operations =
            self.flops.of(packs().flat_map(|pack| pack.documents.iter().map(|document| document.tokens)));
        self.tokens_seen += totals.tokens;
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        let tflops = operations / seconds / 1e12;
        let record = Step {
            step: step + 1,
            epoch,
            loss: gradient.loss,
            grad_norm: norm,
            lr,
            examples: totals.examples,
            tokens: totals.tokens,
            trained_tokens: totals.trained_tokens,
            batch,
            tokens_per_second: totals.tokens as f64 / seconds,
            tflops,
            mfu: self.convention.peak_tflops.map(|peak| tflops / peak),
            phase_ms: gradient.seconds.named(updating.elapsed().as_secs_f64()),
            memory: device::peak_memory(),
            device_memory: device::used_memory(self.model.device),
        };
        self.log.event(&Event::Step(record))
    }

    /// A step that cannot be applied: an error, or left out, as the config says.
    fn leave_out(&mut self, error: Error, skipped: Skipped) -> Result<()> {
        self.skipped += 1;
        if self.config.not_finite == NotFinite::Stop || self.skipped >= MOST_SKIPPED {
            return Err(error);
        }
        tch::no_grad(|| self.model.parameters.zero_gradients());
        self.log.event(&Event::Skipped(Skipped { reason: error.to_string(), ..skipped }))
    }

    /// Ends a training that a signal asked to end, with a checkpoint of the steps that are done.
    fn end_if_asked(&mut self, done: u64) -> Result<()> {
        let Some(signal) = self.stop.asked() else { return Ok(()) };
        let path = match done {
            0 => None,
            _ if self.saved == Some(done) => Some(checkpoint::folder(self.out, done)),
            _ => Some(self.save(done)?),
        };
        Err(Error::Stopped { signal, step: done, path })
    }

    /// Refuses to keep weights that are no numbers: the last update may have broken what no loss has seen yet. A
    /// checkpoint comes after the last step, so no model is written from weights that were not looked at.
    fn check_weights(&self, step: u64) -> Result<()> {
        let Some(name) = broken_weight(&self.model.parameters) else { return Ok(()) };
        Err(Error::NotFinite {
            step,
            what: "a weight",
            value: "NaN or infinite after the update".to_owned(),
            first: format!(", first in `{name}`"),
            examples: vec!["of that step".to_owned()],
            hint: self.advice(),
        })
    }

    fn save(&mut self, step: u64) -> Result<PathBuf> {
        self.check_weights(step)?;
        let best = self.config.keep_best.then(|| best(&self.losses, 1)).flatten();
        let keep =
            checkpoint::Keep { newest: self.config.keep_checkpoints, best: best.map(|best| best.step) };
        let parameters = &self.model.parameters;
        let point = Point { step, skipped: self.skipped };
        let path = checkpoint::save(
            self.out,
            self.identity,
            point,
            parameters,
            &self.optimizer,
            &self.losses,
            keep,
        )?;
        self.saved = Some(step);
        self.log.event(&Event::Checkpoint { step, path: path.display().to_string() })?;
        Ok(path)
    }

    /// What to do about numbers that are none.
    fn advice(&self) -> String {
        let kept = checkpoint::newest(self.out);
        let kept = kept
            .map_or(String::new(), |path| format!("; the checkpoint in `{}` is from before", path.display()));
        format!("look at these examples, lower `lr`, or set `clip`{kept}")
    }
}

/// The evaluation with the lowest loss, of those after at least so many steps.
pub(crate) fn best(losses: &[ExampleLoss], least: u64) -> Option<Best> {
    let mut sums: BTreeMap<u64, (f64, u64)> = BTreeMap::new();
    for row in losses.iter().filter(|row| row.step >= least) {
        let sum = sums.entry(row.step).or_default();
        *sum = (sum.0 + row.loss * row.tokens as f64, sum.1 + row.tokens);
    }
    let means = sums.into_iter().map(|(step, (sum, tokens))| Best { step, loss: sum / tokens.max(1) as f64 });
    means.min_by(|a, b| a.loss.total_cmp(&b.loss))
}

/// The digest of a step's example ids, in their order.
fn batch_digest(packs: &Packs, chosen: &[usize]) -> Digest {
    let documents = chosen.iter().flat_map(|&pack| &packs.all()[pack].documents);
    documents
        .fold(Kind::Choice.fields().text("batch"), |fields, document| fields.text(&document.example_id))
        .finish()
}
