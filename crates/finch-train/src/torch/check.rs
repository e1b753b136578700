//! `finch-train check`: what this machine computes, against a reference in double precision by automatic differentiation.
//!
//! A card, a driver and a libtorch that were never together may disagree; this says so in a minute, before a training of
//! days. Small random models of each family: gradients in f32 and bf16, each level of what is kept, each way to compute
//! attention, and each form of the optimizer's state.

use finch_core::training::{Base, Config, DType, StateBytes};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::attention::Path;
use super::loss::Head;
use super::optimizer::AdamW;
use super::parameters::{Parameter, Parameters};
use super::reference::{self, distance};
use super::step::{self, Phases};
use super::weights::Weights;
use super::{Level, Model, Segments, device};
use finch_train::architecture::{Architecture, TensorSpec};
use finch_train::cli;
use finch_train::error::{Error, Result};
use finch_train::log::say;
use finch_train::sequence::Sequence;
use finch_train::synthetic;

/// Rounding of f32 through a few layers; parity with `transformers` is a tenth of it.
const F32: f64 = 2e-5;
/// How much further from the truth than automatic differentiation in bf16 our bf16 may be.
const BF16: f64 = 1.5;
/// Further than this nothing in bf16 is right; automatic differentiation was within 4e-2 on a processor.
const MOST: f64 = 0.1;

/// Comparisons that were made, and how many were beyond their limit.
#[derive(Default)]
struct Tally {
    made: usize,
    failed: usize,
}

impl Tally {
    fn compare(&mut self, what: &str, figure: f64, limit: f64) {
        self.made += 1;
        let fine = figure <= limit;
        self.failed += usize::from(!fine);
        say(&format!(
            "{}  {what:<80} {figure:.1e}  (at most {limit:.1e})\n",
            if fine { "ok  " } else { "FAIL" }
        ));
    }
}

/// `finch-train check`.
pub(crate) fn run(command: &cli::Check) -> Result<()> {
    let machine = device::set_up(command.device, command.threads, false)?;
    let environment = &machine.environment;
    say(&format!("{} ({}), {} threads\n", environment.device, environment.device_name, environment.threads));
    let mut tally = Tally::default();
    for (name, config) in shapes() {
        let shape = Architecture::from_config(config).map_err(Error::Torch)?;
        gradients(&mut tally, name, &shape, machine.device)?;
    }
    attention(&mut tally, machine.device)?;
    head(&mut tally, machine.device);
    updates(&mut tally, machine.device)?;
    match tally.failed {
        0 => {
            say(&format!("all of {} comparisons are within their limits\n", tally.made));
            Ok(())
        }
        failed => Err(Error::Check { failed, made: tally.made }),
    }
}

/// A small model of each family; heads as wide as those of real models, because kernels depend on it.
fn shapes() -> [(&'static str, serde_json::Value); 3] {
    let with = |more: serde_json::Value| {
        let mut config = json!({
            "vocab_size": 512, "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 128, "rms_norm_eps": 1e-6,
            "rope_theta": 1e6, "max_position_embeddings": 4096, "initializer_range": 0.06,
        });
        if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
            config.extend(more.clone());
        }
        config
    };
    [
        ("qwen3", with(json!({ "model_type": "qwen3", "tie_word_embeddings": false }))),
        ("qwen2", with(json!({ "model_type": "qwen2", "tie_word_embeddings": true, "head_dim": 64 }))),
        (
            "llama",
            with(json!({
                "model_type": "llama", "attention_bias": true,
                "rope_scaling": { "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 64 },
            })),
        ),
    ]
}

/// Documents of several lengths, the last two thirds of each trained.
fn documents(vocabulary: i64) -> Sequence {
    let mut sequence = Sequence::default();
    for (seed, length) in [37, 80, 5, 130, 64, 515].into_iter().enumerate() {
        let one = synthetic::sequence(vocabulary, length, length, 1.0, seed as u64);
        let ids: Vec<i32> = one.ids.iter().map(|&id| id as i32).collect();
        let trained: Vec<bool> = (0..length).map(|t| t > length / 3).collect();
        sequence.push(&ids, &trained, 1.0);
    }
    sequence
}

/// Everything about gradients of one family.
fn gradients(tally: &mut Tally, name: &str, shape: &Architecture, device: Device) -> Result<()> {
    let sequence = documents(shape.vocab_size);
    let divisor = sequence.weight();
    let everything = vec![Level::Everything; shape.layers()];
    let ours = |model: &Model, levels: &[Level]| -> Result<(f64, Tensor)> {
        let loss = step::add(model, levels, &sequence, divisor, &mut Phases::default())?;
        let gradient = model.parameters.gradients.copy();
        tch::no_grad(|| model.parameters.zero_gradients());
        Ok((loss, gradient))
    };
    for dtype in [DType::F32, DType::Bf16] {
        let mut config =
            Config::new(Base::Config { config: "".into(), init: finch_core::training::Init::Random }, 1e-3);
        config.dtype = dtype;
        let model = Model::new(Weights::begin(&config, shape.clone(), device)?)?;
        let truth = Model::new(Weights::copied(&model, Kind::Double, Device::Cpu)?)?;
        let right = reference::gradient(&truth, &truth.segments(&sequence), divisor);
        let (loss, gradient) = ours(&model, &everything)?;
        let off = |gradient: &Tensor| right.distance(&truth, gradient, &model.parameters);
        let (figure, weight) = off(&gradient);
        let limit = match dtype {
            DType::F32 => F32,
            DType::Bf16 => {
                let plain = reference::gradient(&model, &model.segments(&sequence), divisor);
                let plain = right.distance_of(&truth, &plain, &model);
                // Where automatic differentiation itself is wrong, being near to it means nothing.
                (BF16 * plain).min(MOST)
            }
        };
        let word = if dtype == DType::F32 { "f32" } else { "bf16" };
        let of_loss = if dtype == DType::F32 { 1e-6 } else { 2e-3 };
        tally.compare(&format!("{name}, {word}: loss"), (loss - right.loss).abs() / right.loss, of_loss);
        tally.compare(&format!("{name}, {word}: gradients, worst at {weight}"), figure, limit);
        for (level, words) in [(Level::Lean, "lean"), (Level::Inputs, "inputs")] {
            let (_, again) = ours(&model, &vec![level; shape.layers()])?;
            // The CPU computes the same thing twice alike; a card may add up in another order.
            let limit = if device.is_cuda() { limit } else { 0.0 };
            tally.compare(
                &format!("{name}, {word}: {words} kept, from everything kept"),
                distance(&again, &gradient),
                limit,
            );
        }
    }
    Ok(())
}

/// Each way to compute attention that this device has, against the plain one in double precision.
fn attention(tally: &mut Tally, device: Device) -> Result<()> {
    let lengths = [64i64, 1, 333, 100];
    let total: i64 = lengths.iter().sum();
    for (path, kind, limit) in [
        (Path::Plain, Kind::Float, F32),
        (Path::Fused, Kind::Float, F32),
        (Path::Fused, Kind::BFloat16, 1e-2),
        (Path::Flash, Kind::BFloat16, 1e-2),
    ] {
        let there = match path {
            Path::Plain => true,
            Path::Fused => !device.is_cuda(),
            Path::Flash => device.is_cuda(),
        };
        for (heads, key_heads, width) in [(8, 2, 128), (4, 4, 64), (2, 1, 256)].into_iter().filter(|_| there)
        {
            tch::manual_seed(7);
            let drawn = |heads: i64| {
                Tensor::randn([total, heads, width], (Kind::Float, Device::Cpu))
                    .to_kind(kind)
                    .to_device(device)
            };
            let (q, k, v, d) = (drawn(heads), drawn(key_heads), drawn(key_heads), drawn(heads));
            let wide = |x: &Tensor| x.to_device(Device::Cpu).to_kind(Kind::Double);
            let segments = Segments::of_lengths(&lengths, device);
            let truth = Segments::of_lengths(&lengths, Device::Cpu);
            let found = tch::no_grad(|| -> Result<_> {
                let mixed = path.forward(&q, &k, &v, &segments)?;
                let gradients = path.backward([&q, &k, &v], &mixed, &d, &segments)?;
                Ok((mixed.out, gradients))
            })?;
            let (wq, wk, wv) = (wide(&q), wide(&k), wide(&v));
            let mixed = tch::no_grad(|| Path::Plain.forward(&wq, &wk, &wv, &truth))?;
            let right = Path::Plain.backward([&wq, &wk, &wv], &mixed, &wide(&d), &truth)?;
            let worst =
                found.1.iter().zip(&right).map(|(found, right)| distance(found, right)).fold(0.0, f64::max);
            let what = format!("attention {path:?} in {kind:?}, {heads} heads over {key_heads} of {width}");
            tally.compare(&format!("{what}: output"), distance(&found.0, &mixed.out), limit);
            tally.compare(&format!("{what}: gradients"), worst, limit);
        }
    }
    Ok(())
}

/// The head alone, with as many tokens as real vocabularies have: on a card other kernels compute rows of that length.
fn head(tally: &mut Tally, device: Device) {
    let (vocabulary, width, rows) = (151_937, 64, 40);
    for (kind, limit) in [(Kind::Float, 1e-5), (Kind::BFloat16, 1e-2)] {
        tch::manual_seed(13);
        let drawn =
            |size: [i64; 2]| Tensor::randn(size, (Kind::Float, Device::Cpu)).to_kind(kind).to_device(device);
        let (matrix, states) = (drawn([vocabulary, width]) * 0.1, drawn([rows, width]));
        let targets = Tensor::randint(vocabulary, [rows], (Kind::Int64, Device::Cpu)).to_device(device);
        let weights = Tensor::linspace(0.1, 1.0, rows, (Kind::Float, Device::Cpu)).to_device(device);
        let gradient = matrix.zeros_like();
        let parameter = Parameter { value: matrix.shallow_clone(), gradient: Some(gradient.shallow_clone()) };
        // Slices of 16, 16 and 8 rows.
        let head = Head { weight: parameter, rows: 16 };
        let loss = tch::no_grad(|| head.loss(&states, &targets, &weights, Some(22.0)));
        let wide = |x: &Tensor| x.to_device(Device::Cpu).to_kind(Kind::Double);
        let (matrix, states, index) =
            (wide(&matrix), wide(&states), targets.to_device(Device::Cpu).unsqueeze(1));
        let logs = states.mm(&matrix.tr()).log_softmax(-1, None);
        let by_row = logs.gather(1, &index, false).neg().squeeze_dim(1);
        let ones = Tensor::ones([rows, 1], (Kind::Double, Device::Cpu));
        let d = logs.exp().scatter_add(1, &index, &-ones) * (wide(&weights) / 22.0).unsqueeze(1);
        let what = format!("head in {kind:?}, {vocabulary} tokens");
        tally.compare(&format!("{what}: losses"), distance(&loss.by_row, &by_row), limit);
        tally.compare(&format!("{what}: gradient"), distance(&gradient, &d.tr().mm(&states)), limit);
        let dstates = loss.dstates.unwrap_or_else(|| states.zeros_like());
        tally.compare(&format!("{what}: gradient of states"), distance(&dstates, &d.mm(&matrix)), limit);
    }
}

/// What gradients are multiplied with in updates, as clipping does.
const SCALE: f64 = 0.37;

/// Ten updates in each form of the optimizer's state, against the formula in double precision.
fn updates(tally: &mut Tally, device: Device) -> Result<()> {
    for (dtype, state, limit) in [
        (Kind::Float, StateBytes::Sixteen, 1e-6),
        (Kind::BFloat16, StateBytes::Sixteen, 2e-3),
        (Kind::BFloat16, StateBytes::Twelve, 2e-3),
        (Kind::BFloat16, StateBytes::Ten, 2e-3),
        // Chance adds up like a walk: each of ten roundings is off by up to 2^-8, 0.4 of that on average, which makes
        // 0.4 x 2^-8 x sqrt(10) = 5e-3 of a number, and more of one that is just above a power of two.
        (Kind::BFloat16, StateBytes::Eight, 1e-2),
    ] {
        let spec = |name: &str, shape: &[i64]| TensorSpec { name: name.to_owned(), shape: shape.to_vec() };
        let parameters =
            Parameters::new(&[spec("matrix", &[1100, 1000]), spec("norm", &[100])], dtype, device);
        let mut config = Config::new(Base::Checkpoint("".into()), 1e-2);
        config.state_bytes = state;
        config.weight_decay = 0.1;
        config.dtype = if dtype == Kind::Float { DType::F32 } else { DType::Bf16 };
        tch::manual_seed(11);
        let size = parameters.weights.size();
        let drawn = |scale: f64| Tensor::randn(size.as_slice(), (Kind::Float, Device::Cpu)) * scale;
        let wide = |x: &Tensor| x.to_device(Device::Cpu).to_kind(Kind::Double);
        tch::no_grad(|| parameters.weights.shallow_clone().copy_(&drawn(1.0)));
        let mut right = wide(&parameters.weights);
        let (mut m, mut v) = (right.zeros_like(), right.zeros_like());
        let mut optimizer = AdamW::new(&parameters, &config);
        for step in 1..=10 {
            tch::no_grad(|| parameters.gradients.shallow_clone().copy_(&drawn(0.1)));
            let g = wide(&parameters.gradients) * SCALE;
            m = m * config.beta1 + &g * (1.0 - config.beta1);
            v = v * config.beta2 + &g * &g * (1.0 - config.beta2);
            let c1 = 1.0 - config.beta1.powi(step);
            let c2 = 1.0 - config.beta2.powi(step);
            let decays = Tensor::ones_like(&right);
            let end = decays.size()[0];
            let _ = decays.narrow(0, parameters.decayed, end - parameters.decayed).fill_(0.0);
            right = &right * (1.0 - decays * (config.lr * config.weight_decay))
                - (&m / c1) / ((&v / c2).sqrt() + config.epsilon) * config.lr;
            optimizer.update(&parameters, config.lr, SCALE)?;
        }
        let what = format!("ten updates, {dtype:?} weights, {} bytes a weight", u8::from(state));
        tally.compare(&what, distance(&parameters.weights, &right), limit);
    }
    Ok(())
}
