//! How the table of a `train` stage is read.
//!
//! Defaults and ranges are the trainer's own ([`finch_core::training::Config`]), so that a spec and a config
//! file that a person writes for the trainer mean the same.

use std::collections::BTreeMap;
use std::path::Path;

use finch_core::training::{
    self, Activations, Base, DType, Device, Init, Lora, Method, NotFinite, Projection, Schedule,
    ScheduleKind, StateBytes,
};

use super::diagnostic::{Diagnostic, did_you_mean};
use super::kinds::input;
use super::stages::{Config, Launcher, Train};
use super::{Reader, Span};
use crate::code::Code;

/// The word of a launcher's template that stands for the trainer's command.
pub(crate) const COMMAND: &str = "{command}";

/// Methods that the design names; those without a value are not built yet.
const METHODS: [(&str, Option<Method>); 4] =
    [("sft", Some(Method::Sft)), ("lora", Some(Method::Lora)), ("kto", None), ("es", None)];

/// The places of keys that stand in a table of their own.
type Places = BTreeMap<&'static str, Span>;

pub(super) fn train(reader: &mut Reader<'_>, folder: &Path) -> Option<Config> {
    let input = input(reader, "input");
    let base = reader.required("base", |reader, key| base(reader, key, folder));
    let base_span = reader.span_of("base");
    let lr = reader.required("lr", Reader::number);
    // Whatever is missing is reported; the rest of the table is read all the same.
    let stand_in = Base::Checkpoint(folder.to_path_buf());
    let mut config = training::Config::new(base.clone().unwrap_or(stand_in), lr.unwrap_or(1.0));
    let mut places = Places::new();
    method(reader, &mut config, &mut places);
    config.epochs = count(reader, "epochs");
    config.steps = count(reader, "steps");
    config.batch_examples = count(reader, "batch_examples");
    config.batch_packs = count(reader, "batch_packs");
    set(&mut config.micro_packs, count(reader, "micro_packs"));
    schedule(reader, &mut config.schedule, &mut places);
    set(&mut config.beta1, reader.number("beta1"));
    set(&mut config.beta2, reader.number("beta2"));
    set(&mut config.epsilon, reader.number("epsilon"));
    set(&mut config.weight_decay, reader.number("weight_decay"));
    set(&mut config.clip, reader.number("clip"));
    device(reader, &mut config);
    set(&mut config.eval_every, every(reader, "eval_every"));
    config.eval_tokens = count(reader, "eval_tokens");
    set(&mut config.checkpoint_every, every(reader, "checkpoint_every"));
    set(&mut config.keep_checkpoints, count(reader, "keep_checkpoints"));
    set(&mut config.keep_best, reader.boolean("keep_best"));
    let words = [("stop", NotFinite::Stop), ("skip", NotFinite::Skip)];
    word(reader, "not_finite", &mut config.not_finite, &words);
    let launcher = if reader.has("launcher") { launcher(reader) } else { Some(Launcher::Local) };
    validate(reader, &config, &places);
    // Defaults that hang on another key are written out: what trains is what the fingerprint says.
    config.lora = config.adapters();
    if config.schedule.kind == ScheduleKind::Wsd {
        config.schedule.decay = Some(config.schedule.decays());
    }
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

/// Takes a word over the default. Returns whether the key means something: what hangs on it is judged only then.
fn word<T: Copy>(reader: &mut Reader<'_>, key: &str, field: &mut T, words: &[(&str, T)]) -> bool {
    if !reader.has(key) {
        return true;
    }
    let found = reader.choice(key, words);
    set(field, found);
    found.is_some()
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

fn method(reader: &mut Reader<'_>, config: &mut training::Config, places: &mut Places) {
    let lora = lora(reader, places);
    let mut method = Some(config.method);
    if word(reader, "method", &mut method, &METHODS) {
        config.lora = lora;
    }
    match method {
        Some(method) => config.method = method,
        None => {
            let word = reader.text("method").unwrap_or_default();
            let hint = "use \"sft\" or \"lora\"";
            reader.reject("method", Code::NotYet, format!("method `{word}` is not built yet"), hint);
            config.lora = None;
        }
    }
}

/// The adapters of the method `lora`.
fn lora(reader: &mut Reader<'_>, places: &mut Places) -> Option<Lora> {
    let mut table = reader.table("lora")?;
    let mut lora = Lora::default();
    places.extend(["rank", "alpha", "targets"].map(|key| (key, table.span_of(key))));
    let rank = table.integer("rank", 1..=i64::from(u32::MAX)).and_then(|rank| u32::try_from(rank).ok());
    set(&mut lora.rank, rank);
    set(&mut lora.alpha, table.number("alpha"));
    if let Some(names) = table.texts("targets") {
        let none = names.is_empty();
        lora.targets = names.into_iter().filter_map(|(name, span)| target(&table, &name, span)).collect();
        // What it names is reported already; that nothing is left of it is no second mistake.
        if !none && lora.targets.is_empty() {
            lora.targets = Projection::all();
        }
    }
    table.finish();
    Some(lora)
}

/// A projection by its name.
fn target(table: &Reader<'_>, name: &str, span: Span) -> Option<Projection> {
    let found = Projection::ALL.into_iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let message = format!("`targets` in {} cannot name `{name}`", table.what());
        let hint = did_you_mean(name, Projection::ALL.map(|(known, _)| known));
        table.problems().push(Diagnostic::new(Code::BadValue, span, message).with_hint(hint));
    }
    found.map(|(_, projection)| projection)
}

fn schedule(reader: &mut Reader<'_>, schedule: &mut Schedule, places: &mut Places) {
    let Some(mut table) = reader.table("schedule") else { return };
    let words = [
        ("cosine", ScheduleKind::Cosine),
        ("linear", ScheduleKind::Linear),
        ("constant", ScheduleKind::Constant),
        ("wsd", ScheduleKind::Wsd),
    ];
    let known = word(&mut table, "kind", &mut schedule.kind, &words);
    places.extend(["warmup", "decay"].map(|key| (key, table.span_of(key))));
    set(&mut schedule.warmup, table.fraction("warmup"));
    let decay = table.number("decay");
    schedule.decay = decay.filter(|_| known);
    table.finish();
}

/// Where to train, in which types, and within which memory.
fn device(reader: &mut Reader<'_>, config: &mut training::Config) {
    let words = [("f32", DType::F32), ("bf16", DType::Bf16)];
    let typed = word(reader, "dtype", &mut config.dtype, &words);
    let state = state_bytes(reader);
    set(&mut config.state_bytes, state.filter(|_| typed));
    let words = [
        ("auto", Activations::Auto),
        ("everything", Activations::Everything),
        ("lean", Activations::Lean),
        ("inputs", Activations::Inputs),
    ];
    word(reader, "activations", &mut config.activations, &words);
    config.memory = reader.bytes("memory");
    set(&mut config.deterministic, reader.boolean("deterministic"));
    let words = [("auto", Device::Auto), ("cpu", Device::Cpu), ("cuda", Device::Cuda)];
    word(reader, "device", &mut config.device, &words);
    let threads = reader.integer("threads", 1..=4096).map(|threads| threads as u32);
    set(&mut config.threads, threads);
}

fn state_bytes(reader: &mut Reader<'_>) -> Option<StateBytes> {
    let bytes = reader.integer("state_bytes", i64::MIN..=i64::MAX)?;
    let state = u8::try_from(bytes).ok().and_then(|bytes| StateBytes::try_from(bytes).ok());
    if state.is_none() {
        let message = format!("`state_bytes` in {} must be 16, 12, 10 or 8", reader.what());
        reader.reject("state_bytes", Code::BadValue, message, None);
    }
    state
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
fn validate(reader: &Reader<'_>, config: &training::Config, places: &Places) {
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
        let (code, span) = match places.get(key) {
            _ if absent => (Code::MissingKey, reader.span()),
            Some(place) => (Code::BadValue, place.clone()),
            None => (Code::BadValue, reader.span_of(key)),
        };
        let message = format!("`{key}` in {} {reason}", reader.what());
        reader.problems().push(Diagnostic::new(code, span, message));
    }
}
