//! `finch-train bench`: times steps of a model on made-up tokens.

use std::collections::BTreeMap;
use std::time::Instant;

use finch_core::training::{Base, Config, Environment, Init, Kept, Lora, Method, files};
use serde::Serialize;

use super::optimizer::{clip_scale, gradient_norm};
use super::step::{self, Phases};
use super::weights::Weights;
use super::{AdamW, Model, device};
use finch_train::architecture::Architecture;
use finch_train::budget::{Budget, Flight};
use finch_train::cli;
use finch_train::error::{Error, Result};
use finch_train::flops::{self, Flops};
use finch_train::log::say;
use finch_train::synthetic;

/// What was measured.
#[derive(Serialize)]
struct Report {
    parameters: u64,
    trainable: u64,
    tokens: usize,
    trained_tokens: usize,
    steps: Vec<Timed>,
    /// By the median step of the last half.
    tokens_per_second: f64,
    tflops: f64,
    mfu: Option<f64>,
    peak_memory: u64,
    device_memory: Option<u64>,
    kept: Kept,
    plan_bytes: u64,
    /// Memory without a file behind it, in bytes: before the model was made, and at most.
    anonymous_before: u64,
    anonymous_peak: u64,
    environment: Environment,
}

/// A step's figures.
#[derive(Serialize)]
struct Timed {
    seconds: f64,
    loss: f64,
    grad_norm: f64,
    phase_ms: BTreeMap<String, f64>,
}

/// The config that the arguments mean.
fn config(command: &cli::Bench) -> Result<Config> {
    let base = match command.model.is_dir() {
        true => Base::Checkpoint(command.model.clone()),
        false => Base::Config { config: command.model.clone(), init: Init::Random },
    };
    let mut config = Config::new(base, command.lr);
    config.dtype = command.dtype;
    config.state_bytes = command.state_bytes;
    config.activations = command.activations;
    config.memory = command.memory;
    config.deterministic = command.deterministic;
    config.device = command.device;
    config.threads = command.threads;
    config.seed = command.seed;
    if let Some(rank) = command.lora {
        config.method = Method::Lora;
        config.lora = Some(Lora { rank, alpha: 2.0 * f64::from(rank), ..Lora::default() });
    }
    config.validate().map_err(|(key, reason)| Error::Usage(format!("`{key}` {reason}")))?;
    Ok(config)
}

/// `finch-train bench`.
pub(crate) fn run(command: &cli::Bench) -> Result<()> {
    let config = config(command)?;
    let machine = device::set_up(config.device, config.threads, config.deterministic)?;
    let path = match &config.base {
        Base::Checkpoint(folder) => folder.join(files::CONFIG),
        Base::Config { config, .. } => config.clone(),
    };
    let shape = Architecture::read(&path)?;
    let (tokens, document) = (command.tokens as usize, command.document as usize);
    let sequence = synthetic::sequence(shape.vocab_size, tokens, document, command.trained, command.seed);
    let flight = Flight { tokens: tokens as u64, rows: sequence.rows.len() as u64 };
    let free = device::plannable_memory(machine.device);
    let budget = Budget::new(&config, &shape, flight, free, machine.device.is_cuda());
    let operations = Flops::new(&shape, &config).of(sequence.lengths.iter().map(|length| *length as usize));
    let before = device::anonymous_memory();
    let outcome = super::guarded(|| {
        let model = Model::new(Weights::made_up(&config, shape.clone(), machine.device)?)?;
        let mut optimizer = AdamW::new(&model.parameters, &config);
        (0..command.steps)
            .map(|_| timed(&model, &mut optimizer, &budget, &sequence, &config))
            .collect::<Result<Vec<_>>>()
    });
    let steps = outcome.map_err(|error| match error.is_out_of_memory() {
        true => budget.refused(&error.to_string()),
        false => error,
    })?;
    let mut last: Vec<f64> = steps[steps.len() / 2..].iter().map(|step| step.seconds).collect();
    last.sort_unstable_by(f64::total_cmp);
    let median = last[last.len() / 2];
    let card = machine.device.is_cuda().then_some(machine.environment.device_name.as_str());
    let tflops = operations / median / 1e12;
    let report = Report {
        parameters: budget.parameters,
        trainable: budget.trainable,
        tokens,
        trained_tokens: sequence.rows.len(),
        steps,
        tokens_per_second: tokens as f64 / median,
        tflops,
        mfu: flops::convention(card).peak_tflops.map(|peak| tflops / peak),
        peak_memory: device::peak_memory(),
        device_memory: device::used_memory(machine.device),
        kept: budget.kept,
        plan_bytes: budget.total_bytes,
        anonymous_before: before,
        anonymous_peak: device::peak_anonymous_memory(),
        environment: machine.environment,
    };
    let json = serde_json::to_string(&report)
        .map_err(|source| Error::io("write", "standard output")(std::io::Error::other(source)))?;
    say(&if command.json { json + "\n" } else { words(&report) });
    Ok(())
}

fn timed(
    model: &Model,
    optimizer: &mut AdamW,
    budget: &Budget,
    sequence: &finch_train::sequence::Sequence,
    config: &Config,
) -> Result<Timed> {
    let started = Instant::now();
    let mut seconds = Phases::default();
    let loss = step::add(model, &budget.levels, sequence, sequence.weight(), &mut seconds)?;
    let updating = Instant::now();
    let norm = gradient_norm(&model.parameters);
    optimizer.update(&model.parameters, config.lr, clip_scale(norm, config.clip))?;
    device::wait(model.device);
    Ok(Timed {
        seconds: started.elapsed().as_secs_f64(),
        loss,
        grad_norm: norm,
        phase_ms: seconds.named(updating.elapsed().as_secs_f64()),
    })
}

fn words(report: &Report) -> String {
    let mut text = format!(
        "model   {} parameters, {} trained, on {} ({} threads)\npack    {} tokens, {} trained\n",
        report.parameters,
        report.trainable,
        report.environment.device_name,
        report.environment.threads,
        report.tokens,
        report.trained_tokens
    );
    for (index, step) in report.steps.iter().enumerate() {
        let phases: Vec<String> = step.phase_ms.iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
        text += &format!(
            "step {:>2} {:.3} s  loss {:.4}  grad {:.4}  ms: {}\n",
            index + 1,
            step.seconds,
            step.loss,
            step.grad_norm,
            phases.join(", ")
        );
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    text + &format!(
        "median  {:.0} tokens/s, {:.3} TFLOP/s; memory planned {:.0} MiB, taken {:.0} MiB\n",
        report.tokens_per_second,
        report.tflops,
        mib(report.plan_bytes),
        mib(report.device_memory.unwrap_or(report.anonymous_peak.saturating_sub(report.anonymous_before))),
    )
}
