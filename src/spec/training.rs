//! How the table of a `train` stage is read.
//!
//! Defaults and ranges are the trainer's own ([`finch_core::training::Config`]), so that a spec and a config
//! file that a person writes for the trainer mean the same.

use std::path::Path;

use finch_core::training::{self, Base, DType, Device, Init, Schedule, ScheduleKind};

use super::diagnostic::Diagnostic;
use super::kinds::input;
use super::stages::{Config, Launcher, Train};
use super::{Reader, Span};
use crate::code::Code;

/// The word of a launcher's template that stands for the trainer's command.
pub(crate) const COMMAND: &str = "{command}";

/// Methods that the design names; those without a value are not built yet.
const METHODS: [(&str, Option<training::Method>); 4] =
    [("sft", Some(training::Method::Sft)), ("lora", None), ("kto", None), ("es", None)];

pub(super) fn train(reader: &mut Reader<'_>, folder: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let base = reader.required("base", |reader, key| base(reader, key, folder));
    let base_span = reader.span_of("base");
    method(reader);
    let lr = reader.required("lr", Reader::number);
    // Whatever is missing is reported; the rest of the table is read all the same.
    let stand_in = Base::Checkpoint(folder.to_path_buf());
    let mut config = training::Config::new(base.clone().unwrap_or(stand_in), lr.unwrap_or(1.0));
    config.epochs = count(reader, "epochs");
    config.steps = count(reader, "steps");
    config.batch_examples = count(reader, "batch_examples");
    config.batch_packs = count(reader, "batch_packs");
    set(&mut config.micro_packs, count(reader, "micro_packs"));
    let warmup = schedule(reader, &mut config.schedule);
    set(&mut config.beta1, reader.number("beta1"));
    set(&mut config.beta2, reader.number("beta2"));
    set(&mut config.epsilon, reader.number("epsilon"));
    set(&mut config.weight_decay, reader.number("weight_decay"));
    set(&mut config.clip, reader.number("clip"));
    if reader.has("dtype") {
        set(&mut config.dtype, reader.choice("dtype", &[("f32", DType::F32), ("bf16", DType::Bf16)]));
    }
    if reader.has("device") {
        let words = [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda", Device::Cuda)];
        set(&mut config.device, reader.choice("device", &words));
    }
    let threads = reader.integer("threads", 1..=4096).map(|threads| threads as u32);
    set(&mut config.threads, threads);
    set(&mut config.eval_every, every(reader, "eval_every"));
    config.eval_tokens = count(reader, "eval_tokens");
    set(&mut config.checkpoint_every, every(reader, "checkpoint_every"));
    let launcher = if reader.has("launcher") { launcher(reader) } else { Some(Launcher::Local) };
    validate(reader, &config, &warmup);
    base?;
    lr?;
    Some(Config::Train(Box::new(Train { input: input?, base_span, config, launcher: launcher? })))
}

/// Takes a value over the default, when the key is there and right.
fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn count(reader: &mut Reader<'_>, key: &str) -> Option<u64> {
    reader.integer(key, 1..=i64::MAX).map(|number| number as u64)
}

fn every(reader: &mut Reader<'_>, key: &str) -> Option<u64> {
    reader.integer(key, 0..=i64::MAX).map(|number| number as u64)
}

/// A checkpoint's directory as text, or a table with a model's config.
fn base(reader: &mut Reader<'_>, key: &str, folder: &Path) -> Option<Base> {
    if !reader.is_table(key) {
        return Some(Base::Checkpoint(folder.join(reader.text(key)?)));
    }
    let mut table = reader.table(key)?;
    let config = table.required_text("config");
    let init = table.required("init", |table, key| table.choice(key, &[("random", Init::Random)]));
    table.finish();
    Some(Base::Config { config: folder.join(config?), init: init? })
}

fn method(reader: &mut Reader<'_>) {
    if !reader.has("method") {
        return;
    }
    if reader.choice("method", &METHODS) == Some(None) {
        let word = reader.text("method").unwrap_or_default();
        reader.reject("method", Code::NotYet, format!("method `{word}` is not built yet"), "use \"sft\"");
    }
}

/// Reads the schedule; returns the place of its warm-up.
fn schedule(reader: &mut Reader<'_>, schedule: &mut Schedule) -> Span {
    let mut warmup = reader.span();
    if let Some(mut table) = reader.table("schedule") {
        let words = [
            ("cosine", ScheduleKind::Cosine),
            ("linear", ScheduleKind::Linear),
            ("constant", ScheduleKind::Constant),
        ];
        if table.has("kind") {
            set(&mut schedule.kind, table.choice("kind", &words));
        }
        warmup = table.span_of("warmup");
        set(&mut schedule.warmup, table.fraction("warmup"));
        table.finish();
    }
    warmup
}

fn launcher(reader: &mut Reader<'_>) -> Option<Launcher> {
    let text = reader.text("launcher")?;
    if text == "local" {
        return Some(Launcher::Local);
    }
    let problem = match shell_words::split(&text) {
        Err(_) => "a quote in `launcher` is not closed".to_owned(),
        Ok(words) if words.iter().any(|word| word.contains(COMMAND)) => {
            return Some(Launcher::Template(words));
        }
        Ok(_) => format!("`launcher` lacks `{COMMAND}`, which stands for the trainer's command"),
    };
    let hint = "write \"local\", or a command such as \"srun --gres=gpu:1 {command}\"";
    reader.reject("launcher", Code::BadValue, problem, hint);
    None
}

/// What the trainer itself would refuse, at the place of the key.
fn validate(reader: &Reader<'_>, config: &training::Config, warmup: &Span) {
    for (key, reason) in config.problems() {
        let (keys, absent) = match key {
            "epochs" => (["epochs", "steps"], config.epochs.is_none()),
            "batch_examples" => (["batch_examples", "batch_packs"], config.batch_examples.is_none()),
            _ => ([key; 2], false),
        };
        // What it says was refused already; it is not missing.
        if absent && keys.iter().any(|key| reader.has(key)) {
            continue;
        }
        let (code, span) = match key {
            _ if absent => (Code::MissingKey, reader.span()),
            "warmup" => (Code::BadValue, warmup.clone()),
            key => (Code::BadValue, reader.span_of(key)),
        };
        let message = format!("`{key}` in {} {reason}", reader.what());
        reader.problems().push(Diagnostic::new(code, span, message));
    }
}
