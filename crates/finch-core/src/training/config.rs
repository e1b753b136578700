//! The parameters of a training, as a spec's `train` stage and the trainer's own config file write them.

use serde::{Deserialize, Serialize};

use super::choices::{
    Activations, Base, Batch, DType, Device, Length, Lora, Method, NotFinite, Schedule, ScheduleKind,
    StateBytes,
};
use crate::Digest;

/// Everything that decides the weights, besides the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// What training starts from.
    pub base: Base,
    /// The digest that the base must have, where whoever wrote the config knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_digest: Option<Digest>,
    /// What is optimised.
    #[serde(default)]
    pub method: Method,
    /// The adapters of the method `lora`; those of [`Lora::default`] when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<Lora>,
    /// Passes over the training packs; this or `steps`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Optimizer steps; this or `epochs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Examples of a step, on average: packs are never cut. This or `batch_packs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_examples: Option<u64>,
    /// Packs of a step; this or `batch_examples`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_packs: Option<u64>,
    /// Packs that go through the model together; more need more memory and launch fewer kernels.
    #[serde(default = "one")]
    pub micro_packs: u64,
    /// The highest learning rate.
    pub lr: f64,
    /// How the learning rate moves.
    #[serde(default)]
    pub schedule: Schedule,
    /// AdamW's first decay rate.
    #[serde(default = "beta1")]
    pub beta1: f64,
    /// AdamW's second decay rate.
    #[serde(default = "beta2")]
    pub beta2: f64,
    /// AdamW's epsilon.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// Decoupled weight decay, of matrices alone: norms are spared.
    #[serde(default)]
    pub weight_decay: f64,
    /// The largest global gradient norm; longer gradients are scaled down to it. 0 clips nothing.
    #[serde(default = "unit")]
    pub clip: f64,
    /// The weights' type while they train, and that of activations.
    #[serde(default)]
    pub dtype: DType,
    /// Bytes that a trained weight takes with its gradient and the optimizer's state.
    #[serde(default)]
    pub state_bytes: StateBytes,
    /// What is kept of a layer for its backward pass.
    #[serde(default)]
    pub activations: Activations,
    /// Bytes that the training may take on its device; what is free there when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Whether a device's faster operations that add up in any order are avoided. On the CPU there are none.
    #[serde(default)]
    pub deterministic: bool,
    /// Where to train.
    #[serde(default)]
    pub device: Device,
    /// Threads of libtorch on the CPU; a part of the result, because sums of floats depend on it.
    #[serde(default = "threads")]
    pub threads: u32,
    /// Held-out losses are taken before the first step, after the last, and every so many steps; 0 for no more.
    #[serde(default)]
    pub eval_every: u64,
    /// At most so many tokens of each held-out task, whole examples chosen by hash; all when absent. A task of longer
    /// examples alone is represented by its shortest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eval_tokens: Option<u64>,
    /// A checkpoint to resume from, every so many steps; there is one after the last step in any case.
    #[serde(default)]
    pub checkpoint_every: u64,
    /// The newest checkpoints that are kept.
    #[serde(default = "two")]
    pub keep_checkpoints: u64,
    /// Whether a checkpoint is made and kept where an evaluation during training gave the lowest held-out loss so far.
    #[serde(default)]
    pub keep_best: bool,
    /// What happens when a loss or a gradient is no finite number.
    #[serde(default)]
    pub not_finite: NotFinite,
    /// Seeds the order of packs, the choice of held-out examples and random weights.
    #[serde(default)]
    pub seed: u64,
}

fn one() -> u64 {
    1
}

fn two() -> u64 {
    2
}

fn unit() -> f64 {
    1.0
}

fn beta1() -> f64 {
    0.9
}

/// Shorter memory than PyTorch's 0.999, as language models are trained (GPT-3, arXiv 2005.14165, appendix B).
fn beta2() -> f64 {
    0.95
}

fn epsilon() -> f64 {
    1e-8
}

/// A fixed number, not the machine's: it is a part of the result.
fn threads() -> u32 {
    2
}

impl Config {
    /// Keys that change no weight: where the base lies, what is kept on disk and in memory.
    pub const WEIGHTLESS: [&'static str; 7] =
        ["base", "base_digest", "checkpoint_every", "keep_checkpoints", "keep_best", "activations", "memory"];

    /// A config with every default, for a base and a learning rate: one epoch, one pack a step.
    pub fn new(base: Base, lr: f64) -> Self {
        Self {
            base,
            base_digest: None,
            method: Method::Sft,
            lora: None,
            epochs: Some(1),
            steps: None,
            batch_examples: None,
            batch_packs: Some(1),
            micro_packs: one(),
            lr,
            schedule: Schedule::default(),
            beta1: beta1(),
            beta2: beta2(),
            epsilon: epsilon(),
            weight_decay: 0.0,
            clip: unit(),
            dtype: DType::default(),
            state_bytes: StateBytes::default(),
            activations: Activations::default(),
            memory: None,
            deterministic: false,
            device: Device::default(),
            threads: threads(),
            eval_every: 0,
            eval_tokens: None,
            checkpoint_every: 0,
            keep_checkpoints: two(),
            keep_best: false,
            not_finite: NotFinite::default(),
            seed: 0,
        }
    }

    /// More than this is a slip of the hand, and keeps sums of tokens far from overflow.
    const MOST: u64 = 1 << 40;
    /// More than this is a slip of the hand, and would take hours to plan.
    const MOST_EPOCHS: u64 = 10_000;
    /// More than any machine has.
    const MOST_THREADS: u32 = 1024;
    /// Wider than any layer's projections, and then no adapter.
    const MOST_RANK: u32 = 4096;

    /// The adapters that are trained; none where every weight is.
    pub fn adapters(&self) -> Option<Lora> {
        (self.method == Method::Lora).then(|| self.lora.clone().unwrap_or_default())
    }

    /// How long to train; exactly one of `epochs` and `steps` says it.
    pub fn length(&self) -> Result<Length, (&'static str, String)> {
        match (self.epochs, self.steps) {
            (Some(0), _) => Err(("epochs", "must be at least 1".to_owned())),
            (_, Some(0)) => Err(("steps", "must be at least 1".to_owned())),
            (Some(epochs), None) if epochs > Self::MOST_EPOCHS => {
                Err(("epochs", format!("must be at most {}", Self::MOST_EPOCHS)))
            }
            (Some(epochs), None) => Ok(Length::Epochs(epochs)),
            (None, Some(steps)) => Ok(Length::Steps(steps)),
            (Some(_), Some(_)) => Err(("steps", "stands beside `epochs`; give one of them".to_owned())),
            (None, None) => Err(("epochs", "is missing, and so is `steps`; give one of them".to_owned())),
        }
    }

    /// What a step holds; exactly one of `batch_examples` and `batch_packs` says it.
    pub fn batch(&self) -> Result<Batch, (&'static str, String)> {
        match (self.batch_examples, self.batch_packs) {
            (Some(0), _) => Err(("batch_examples", "must be at least 1".to_owned())),
            (_, Some(0)) => Err(("batch_packs", "must be at least 1".to_owned())),
            (Some(examples), None) => Ok(Batch::Examples(examples)),
            (None, Some(packs)) => Ok(Batch::Packs(packs)),
            (Some(_), Some(_)) => {
                Err(("batch_packs", "stands beside `batch_examples`; give one of them".to_owned()))
            }
            (None, None) => {
                Err(("batch_examples", "is missing, and so is `batch_packs`; give one of them".to_owned()))
            }
        }
    }

    /// Checks every value; the error is the first key that has a problem, and what it is.
    pub fn validate(&self) -> Result<(), (&'static str, String)> {
        self.problems().into_iter().next().map_or(Ok(()), Err)
    }

    /// Every key whose value cannot be, and why.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let either = [self.length().err(), self.batch().err()];
        let mut problems: Vec<(&'static str, String)> = either.into_iter().flatten().collect();
        let mut check = |key, fine: bool, reason: String| {
            if !fine && problems.iter().all(|(known, _)| *known != key) {
                problems.push((key, reason));
            }
        };
        for (key, value) in [("lr", self.lr), ("epsilon", self.epsilon)] {
            check(key, value.is_finite() && value > 0.0, format!("must be above 0, not {value}"));
        }
        for (key, value) in [("weight_decay", self.weight_decay), ("clip", self.clip)] {
            check(key, value.is_finite() && value >= 0.0, format!("must not be negative, nor {value}"));
        }
        for (key, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            let reason = format!("must be at least 0 and below 1, not {value}");
            check(key, (0.0..1.0).contains(&value), reason);
        }
        let warmup = self.schedule.warmup;
        check("warmup", (0.0..=1.0).contains(&warmup), format!("must be between 0 and 1, not {warmup}"));
        let wsd = self.schedule.kind == ScheduleKind::Wsd;
        let decay = self.schedule.decays();
        let reason = format!("must be above 0, and at most 1 together with `warmup`, not {decay}");
        check("decay", !wsd || (decay > 0.0 && warmup + decay <= 1.0), reason);
        let alone = wsd || self.schedule.decay.is_none();
        check("decay", alone, "is of the kind \"wsd\" alone".to_owned());
        self.check_lora(&mut check);
        let wide = self.state_bytes == StateBytes::Sixteen || self.dtype == DType::Bf16;
        check("state_bytes", wide, "below 16 is for `dtype = \"bf16\"`".to_owned());
        // Half of a unit in the last place of a bf16 number is up to 1/256 of it: what moves by less per step stays.
        let coarse = matches!(self.state_bytes, StateBytes::Ten | StateBytes::Eight) && self.beta2 > 0.99;
        let reason = format!(
            "must be at most 0.99 with `state_bytes` of 10 or 8, not {}: a bf16 moment would stop moving",
            self.beta2
        );
        check("beta2", !coarse, reason);
        let coarse = self.state_bytes != StateBytes::Sixteen && self.beta1 > 0.99;
        let reason = format!(
            "must be at most 0.99 with `state_bytes` below 16, not {}: a bf16 moment would stop moving",
            self.beta1
        );
        check("beta1", !coarse, reason);
        check(
            "memory",
            self.memory.is_none_or(|bytes| bytes >= 1 << 20),
            "must be at least 1 MiB".to_owned(),
        );
        let threads = Some(u64::from(self.threads));
        for (key, value, most) in [
            ("micro_packs", Some(self.micro_packs), Self::MOST),
            ("keep_checkpoints", Some(self.keep_checkpoints), Self::MOST),
            ("threads", threads, u64::from(Self::MOST_THREADS)),
            ("steps", self.steps, Self::MOST),
            ("batch_examples", self.batch_examples, Self::MOST),
            ("batch_packs", self.batch_packs, Self::MOST),
            ("eval_tokens", self.eval_tokens, Self::MOST),
        ] {
            check(key, value != Some(0), "must be at least 1".to_owned());
            check(key, value.is_none_or(|value| value <= most), format!("must be at most {most}"));
        }
        problems
    }

    fn check_lora(&self, check: &mut impl FnMut(&'static str, bool, String)) {
        let Some(lora) = &self.lora else { return };
        check("lora", self.method == Method::Lora, "is of the method \"lora\" alone".to_owned());
        let reason = format!("must be between 1 and {}, not {}", Self::MOST_RANK, lora.rank);
        check("rank", (1..=Self::MOST_RANK).contains(&lora.rank), reason);
        let fine = lora.alpha.is_finite() && lora.alpha > 0.0;
        check("alpha", fine, format!("must be above 0, not {}", lora.alpha));
        check("targets", !lora.targets.is_empty(), "names no projection".to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::training::Init;

    fn base() -> Base {
        Base::Checkpoint("models/base".into())
    }

    #[test]
    fn a_short_config_has_the_documented_defaults() {
        let text = r#"{"base": "models/base", "epochs": 1, "batch_packs": 1, "lr": 1e-5}"#;
        let read: Config = serde_json::from_str(text).expect("config");
        assert_eq!(read, Config::new(base(), 1e-5));
    }

    #[test]
    fn what_is_written_is_read_back_and_unknown_keys_are_refused() {
        let mut config = Config::new(Base::Config { config: "m.json".into(), init: Init::Random }, 1e-3);
        config.schedule = Schedule { kind: ScheduleKind::Wsd, warmup: 0.1, decay: Some(0.3) };
        config.eval_tokens = Some(4096);
        config.dtype = DType::Bf16;
        config.state_bytes = StateBytes::Twelve;
        config.method = Method::Lora;
        config.lora = Some(Lora { rank: 4, ..Lora::default() });
        config.memory = Some(1 << 30);
        config.validate().expect("fine");
        let text = serde_json::to_string(&config).expect("json");
        assert_eq!(serde_json::from_str::<Config>(&text).expect("config"), config);
        assert!(serde_json::from_str::<Config>(&text.replace("\"lr\"", "\"learning_rate\"")).is_err());
    }

    #[test]
    fn every_bad_value_is_named() {
        type Spoil = fn(&mut Config);
        let cases: [(&str, Spoil); 28] = [
            ("beta1", |c| (c.dtype, c.state_bytes, c.beta1) = (DType::Bf16, StateBytes::Twelve, 0.999)),
            ("decay", |c| c.schedule.decay = Some(0.1)),
            ("decay", |c| c.schedule = Schedule { kind: ScheduleKind::Wsd, warmup: 0.9, decay: Some(0.2) }),
            ("decay", |c| c.schedule = Schedule { kind: ScheduleKind::Wsd, warmup: 0.0, decay: Some(0.0) }),
            ("decay", |c| c.schedule = Schedule { kind: ScheduleKind::Wsd, warmup: 0.9, decay: None }),
            ("lora", |c| c.lora = Some(Lora::default())),
            ("rank", |c| (c.method, c.lora) = (Method::Lora, Some(Lora { rank: 0, ..Lora::default() }))),
            ("alpha", |c| {
                (c.method, c.lora) = (Method::Lora, Some(Lora { alpha: f64::NAN, ..Lora::default() }));
            }),
            ("targets", |c| {
                (c.method, c.lora) = (Method::Lora, Some(Lora { targets: [].into(), ..Lora::default() }));
            }),
            ("state_bytes", |c| c.state_bytes = StateBytes::Twelve),
            ("beta2", |c| (c.dtype, c.state_bytes, c.beta2) = (DType::Bf16, StateBytes::Ten, 0.999)),
            ("memory", |c| c.memory = Some(1)),
            ("keep_checkpoints", |c| c.keep_checkpoints = 0),
            ("micro_packs", |c| c.micro_packs = u64::MAX),
            ("epochs", |c| c.epochs = Some(u64::MAX)),
            ("threads", |c| c.threads = u32::MAX),
            ("lr", |c| c.lr = 0.0),
            ("lr", |c| c.lr = f64::NAN),
            ("epsilon", |c| c.epsilon = -1.0),
            ("weight_decay", |c| c.weight_decay = f64::INFINITY),
            ("clip", |c| c.clip = -1.0),
            ("beta2", |c| c.beta2 = 1.0),
            ("warmup", |c| c.schedule.warmup = 1.5),
            ("micro_packs", |c| c.micro_packs = 0),
            ("threads", |c| c.threads = 0),
            ("steps", |c| c.steps = Some(5)),
            ("epochs", |c| c.epochs = None),
            ("batch_examples", |c| c.batch_packs = None),
        ];
        for (key, spoil) in cases {
            let mut config = Config::new(base(), 1e-5);
            spoil(&mut config);
            let (named, _) = config.validate().expect_err(key);
            assert_eq!(named, key);
        }
    }
}
