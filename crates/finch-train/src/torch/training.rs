//! The loop: evaluate, step, evaluate, write the model; checkpoints between, and a clean stop on a signal.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use finch_core::signals::ignored;
use finch_core::training::{Base, Config, Event, Finish, Start, Step, digest_of_base, files};
use finch_core::{Code, Digest, Kind};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use super::checkpoint::{self, Finished, Identity, Resumed};
use super::device::peak_memory;
use super::evaluation::Work;
use super::optimizer::clip_scale;
use super::step::{Gradient, accumulate};
use super::{AdamW, Model, device, evaluation, measure, step};
use finch_train::architecture::Architecture;
use finch_train::batch::Batches;
use finch_train::cli;
use finch_train::error::{Error, Result};
use finch_train::held_out::{self, Chosen};
use finch_train::log::{Log, Voice};
use finch_train::losses::{self, ExampleLoss};
use finch_train::packs::Packs;
use finch_train::{config, schedule, tokenizer};

/// `finch-train run`.
pub(crate) fn run(command: &cli::Run) -> Result<()> {
    let started = Instant::now();
    let config = config::read(&command.config)?;
    let machine = device::set_up(config.device, config.threads)?;
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
    let out = command.out.as_path();
    std::fs::create_dir_all(out).map_err(Error::io("create", out))?;
    let voice = if command.json { Voice::Json } else { Voice::Words };
    let identity = Identity::new(&config, base_digest(&config)?, packs.digest(), &machine.environment);
    let mut log = Log::open(&out.join(files::LOG), voice)?;
    if let Some(finished) = Finished::find(out, &identity)? {
        log.event(&Event::Start(finished.start))?;
        return log.event(&Event::Finish(Finish { already: true, ..finished.finish }));
    }
    let model = Model::begin(&config.base, shape, config.dtype, machine.device, config.seed)?;
    let mut optimizer = AdamW::new(&model, &config);
    let Resumed { step: resumed_from, losses } = checkpoint::resume(out, &identity, &model, &mut optimizer)?;
    let train = packs.train();
    let chosen = evaluation::chosen(&packs, &config);
    let start = Start {
        environment: machine.environment,
        parameters: model.shape.parameters(),
        steps: batches.steps(),
        resumed_from,
        data: packs.digest(),
        train: Packs::totals(train.iter().map(|&pack| &packs.all()[pack])),
        reached: Packs::totals(batches.reached().into_iter().map(|index| &packs.all()[train[index]])),
        held_out: held_out::totals(packs.all(), &chosen),
    };
    let stop = Stop::listen()?;
    log.event(&Event::Start(start.clone()))?;
    let mut training = Training {
        config: &config,
        identity: &identity,
        out,
        model,
        optimizer,
        packs: &mut packs,
        chosen,
        log,
        losses,
        tokens_seen: 0,
        stop,
    };
    let (steps, done) = (start.steps, resumed_from.unwrap_or(0));
    let due = |every: u64, count: u64| every > 0 && count.is_multiple_of(every);
    // A checkpoint holds what was measured before its step; what is due after it comes first when it is resumed.
    for count in done..steps {
        if due(config.eval_every, count) || count == 0 {
            training.evaluate(count)?;
        }
        let batch = batches.step(count);
        let packs: Vec<usize> = batch.packs.iter().map(|&index| train[index]).collect();
        training.step(count, steps, batch.epoch, &packs)?;
        let signal = training.stop.asked();
        let saving = due(config.checkpoint_every, count + 1) || count + 1 == steps || signal.is_some();
        let saved = saving.then(|| training.save(count + 1)).transpose()?;
        if let Some(signal) = signal {
            return Err(Error::Stopped { signal, step: count + 1, path: saved });
        }
    }
    training.evaluate(steps)?;
    checkpoint::write_model(out, &training.model, &config, &companions)?;
    losses::write(&out.join(files::LOSSES), &training.losses)?;
    let finish = |weights| Finish {
        step: steps,
        weights,
        seconds: started.elapsed().as_secs_f64(),
        tokens_seen: training.tokens_seen,
        memory: peak_memory(),
        already: false,
    };
    let finished = Finished::new(identity.clone(), start, finish, out)?;
    finished.write(out)?;
    training.log.event(&Event::Finish(finished.finish))
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
    config: &'a Config,
    identity: &'a Identity,
    out: &'a Path,
    model: Model,
    optimizer: AdamW,
    packs: &'a mut Packs,
    chosen: Vec<Chosen>,
    log: Log,
    losses: Vec<ExampleLoss>,
    tokens_seen: u64,
    stop: Stop,
}

impl Training<'_> {
    /// Measures the held-out examples after `done` steps, unless a checkpoint remembers them. A signal ends it.
    fn evaluate(&mut self, done: u64) -> Result<()> {
        if self.chosen.is_empty() || self.losses.iter().any(|row| row.step == done) {
            return Ok(());
        }
        let tokens = self.packs.longest();
        let (model, chosen) = (&self.model, self.chosen.as_slice());
        let work = Work { model, packs: self.packs, chosen, tokens, step: done };
        let Some(measured) = measure(work, None, || self.stop.asked().is_some())? else {
            let signal = self.stop.asked().unwrap_or("a signal");
            let path = if done > 0 { Some(self.save(done)?) } else { None };
            return Err(Error::Stopped { signal, step: done, path });
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
        self.log.event(&Event::Eval(measured.event))
    }

    /// One optimizer step over some packs.
    fn step(&mut self, step: u64, steps: u64, epoch: u64, chosen: &[usize]) -> Result<()> {
        let started = Instant::now();
        let micro = usize::try_from(self.config.micro_packs).unwrap_or(usize::MAX);
        let gradient = accumulate(&self.model, self.packs, chosen, micro)?;
        let updating = Instant::now();
        let norm = self.optimizer.gradient_norm();
        if !gradient.loss.is_finite() || !norm.is_finite() {
            let (values, hint) = ((gradient.loss, norm), self.advice());
            let error =
                step::not_finite(&self.model, &self.optimizer, self.packs, chosen, step + 1, values, hint)?;
            return Err(error);
        }
        let lr = schedule::rate(self.config.schedule, self.config.lr, step, steps);
        // Where every example has the weight 0 there is nothing to learn, and no reason to decay.
        if gradient.weight > 0.0 {
            self.optimizer.update(lr, clip_scale(norm, self.config.clip));
        }
        let totals = Packs::totals(chosen.iter().map(|&pack| &self.packs.all()[pack]));
        self.tokens_seen += totals.tokens;
        let seconds = started.elapsed().as_secs_f64();
        let record = Step {
            step: step + 1,
            epoch,
            loss: gradient.loss,
            grad_norm: norm,
            lr,
            examples: totals.examples,
            tokens: totals.tokens,
            trained_tokens: totals.trained_tokens,
            batch: batch_digest(self.packs, chosen),
            tokens_per_second: totals.tokens as f64 / seconds.max(1e-9),
            phase_ms: phases(&gradient, updating.elapsed().as_secs_f64()),
            memory: peak_memory(),
        };
        self.log.event(&Event::Step(record))
    }

    /// Refuses to keep weights that are no numbers: the last update may have broken what no loss has seen yet. A
    /// checkpoint comes after the last step, so no model is written from weights that were not looked at.
    fn check_weights(&self, step: u64) -> Result<()> {
        let Some(name) = self.model.first_broken() else { return Ok(()) };
        Err(Error::NotFinite {
            step,
            what: "a weight",
            value: "NaN or infinite after the update".to_owned(),
            first: format!(", first in `{name}`"),
            examples: vec!["of that step".to_owned()],
            hint: self.advice(),
        })
    }

    fn save(&mut self, step: u64) -> Result<std::path::PathBuf> {
        self.check_weights(step)?;
        let path =
            checkpoint::save(self.out, self.identity, step, &self.model, &self.optimizer, &self.losses)?;
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

/// The digest of a step's example ids, in their order.
fn batch_digest(packs: &Packs, chosen: &[usize]) -> Digest {
    let documents = chosen.iter().flat_map(|&pack| &packs.all()[pack].documents);
    documents
        .fold(Kind::Choice.fields().text("batch"), |fields, document| fields.text(&document.example_id))
        .finish()
}

fn phases(gradient: &Gradient, optimizer: f64) -> BTreeMap<String, f64> {
    let phases = [
        ("data", gradient.data),
        ("forward", gradient.forward),
        ("backward", gradient.backward),
        ("optimizer", optimizer),
    ];
    phases.into_iter().map(|(name, seconds)| (name.to_owned(), seconds * 1e3)).collect()
}

/// Signals that ask for an end after the current step.
struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Listens for signals.
    fn listen() -> Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !ignored(*signal)) {
            signal_hook::flag::register_usize(signal, Arc::clone(&asked), signal as usize)
                .map_err(Error::io("listen for", "signals"))?;
        }
        // A file beyond the size limit should be an error of that file, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
            .map_err(Error::io("listen for", "signals"))?;
        Ok(Self(asked))
    }

    fn asked(&self) -> Option<&'static str> {
        match self.0.load(Ordering::SeqCst) as i32 {
            0 => None,
            SIGHUP => Some("SIGHUP"),
            SIGINT => Some("SIGINT"),
            _ => Some("SIGTERM"),
        }
    }
}
