//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use finch_core::training::{Activations, DType, Device, StateBytes};

/// Fine-tune a language model on the packs that finch makes.
#[derive(Parser, Debug)]
#[command(name = "finch-train", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train, or go on with a training that was stopped
    Run(Run),
    /// Say what a training needs: parameters, memory, tokens, steps; nothing runs
    Plan(Plan),
    /// Show examples as the model sees them: tokens, masked or trained, segment by segment
    Inspect(Inspect),
    /// Held-out loss of a model, by task; with `--per-token` of every token
    Eval(Eval),
    /// Write the model of a checkpoint: the newest, the best, or that of a step
    Export(Export),
    /// Compare this machine's results with a reference: gradients, attention, memory levels, the optimizer
    Check(Check),
    /// Time steps of a model on made-up tokens; needs no data
    Bench(Bench),
    /// Say what an error code means
    Explain {
        /// The code, such as F0805
        code: String,
    },
}

/// `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The config: TOML, or JSON as finch writes it
    pub config: PathBuf,
    /// The folder of a dataset of packs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where the model, the log and checkpoints go; a training that is in it goes on
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// One JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

/// `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// The config: TOML, or JSON as finch writes it
    pub config: PathBuf,
    /// The folder of a dataset of packs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The memory to plan for, such as 139GiB; the config's `memory` comes before it
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Tokens per second that were measured, for an estimate of hours
    #[arg(long, value_name = "N", value_parser = rate)]
    pub tokens_per_second: Option<f64>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// The folder of a dataset of packs
    pub data: PathBuf,
    /// This example; a unique beginning of its id is enough
    #[arg(long, value_name = "ID", conflicts_with = "pack")]
    pub example: Option<String>,
    /// All examples of this pack; a unique beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub pack: Option<String>,
}

/// `eval`.
#[derive(Args, Debug)]
pub struct Eval {
    /// The folder of a model: config.json and safetensors
    pub model: PathBuf,
    /// The folder of a dataset of packs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Only this split; all but train when absent
    #[arg(long)]
    pub split: Option<String>,
    /// At most so many tokens of each task
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Seeds the choice of examples under `--tokens`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the loss of every token to this Parquet file
    #[arg(long, value_name = "FILE")]
    pub per_token: Option<PathBuf>,
    /// auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: Device,
    /// Threads of libtorch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `export`.
#[derive(Args, Debug)]
pub struct Export {
    /// The config of the training
    pub config: PathBuf,
    /// The folder of the dataset of packs that it trained on
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The training's folder, which holds its checkpoints
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Where the model goes; must not be there yet
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The checkpoint after so many steps
    #[arg(long, value_name = "N", conflicts_with = "best")]
    pub step: Option<u64>,
    /// The checkpoint with the lowest held-out loss; `keep_best` keeps it
    #[arg(long)]
    pub best: bool,
}

/// `check`.
#[derive(Args, Debug)]
pub struct Check {
    /// auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: Device,
    /// Threads of libtorch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
}

/// `bench`.
#[derive(Args, Debug)]
pub struct Bench {
    /// A config.json, for random weights, or the folder of a model
    pub model: PathBuf,
    /// Tokens of a step
    #[arg(long, default_value_t = 4096, value_parser = clap::value_parser!(u32).range(2..))]
    pub tokens: u32,
    /// Tokens of a document
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(2..))]
    pub document: u32,
    /// The part of each document, at its end, that is trained
    #[arg(long, default_value_t = 1.0, value_parser = fraction)]
    pub trained: f64,
    /// Steps
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    pub steps: u32,
    /// f32 or bf16
    #[arg(long, default_value = "f32", value_parser = word::<DType>)]
    pub dtype: DType,
    /// Bytes of a weight with its gradient and state: 16, 12, 10 or 8
    #[arg(long, default_value = "16", value_parser = state_bytes)]
    pub state_bytes: StateBytes,
    /// auto, everything, lean or inputs
    #[arg(long, default_value = "auto", value_parser = word::<Activations>)]
    pub activations: Activations,
    /// The memory to stay within, such as 139GiB
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,
    /// Avoid operations that add up in any order
    #[arg(long)]
    pub deterministic: bool,
    /// Train adapters of this rank, of all projections
    #[arg(long, value_name = "RANK")]
    pub lora: Option<u32>,
    /// auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: Device,
    /// Threads of libtorch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// The learning rate
    #[arg(long, default_value_t = 1e-5)]
    pub lr: f64,
    /// Seeds the tokens and random weights
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// A word of a config, as JSON writes it.
fn word<T: serde::de::DeserializeOwned>(word: &str) -> Result<T, String> {
    serde_json::from_value(word.into()).map_err(|source| source.to_string())
}

fn state_bytes(text: &str) -> Result<StateBytes, String> {
    let bytes: u8 = text.parse().map_err(|_| "is no number".to_owned())?;
    StateBytes::try_from(bytes)
}

fn fraction(text: &str) -> Result<f64, String> {
    let fraction: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if fraction > 0.0 && fraction <= 1.0 {
        Ok(fraction)
    } else {
        Err("must be above 0 and at most 1".to_owned())
    }
}

/// A size in bytes: a number, or one with KiB, MiB, GiB or TiB.
fn bytes(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?.trim(), *shift)));
    let (number, shift) = unit.unwrap_or((text, 0));
    let number: f64 = number.parse().map_err(|_| "is no size, such as 139GiB".to_owned())?;
    let bytes =
        number * f64::from(1u32 << (shift % 30)) * if shift >= 30 { f64::from(1u32 << 30) } else { 1.0 };
    if bytes.is_finite() && (1.0..1e18).contains(&bytes) {
        Ok(bytes as u64)
    } else {
        Err("is out of range".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if rate.is_finite() && rate >= 1.0 { Ok(rate) } else { Err("must be at least 1".to_owned()) }
}

fn device(word: &str) -> Result<Device, String> {
    match word {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda),
        other => Err(format!("`{other}` is not one of auto, cpu, cuda")),
    }
}
