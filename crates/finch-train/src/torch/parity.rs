//! The model against `transformers` on tiny random checkpoints (`tests/fixtures/make.py` made the references).
//!
//! The bars leave rounding in f32 little room: logits to 1e-5, gradients to 2e-6 of their norm, losses of ten steps to
//! 1e-6.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use finch_core::training::{Base, Config, DType};
use finch_train::architecture::Architecture;
use finch_train::sequence::Sequence;
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor};

use super::{AdamW, Head, Model, Segments};

const MODELS: [&str; 2] = ["qwen3", "qwen3-tied"];

struct Reference {
    folder: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    documents: Vec<(Vec<i32>, Vec<bool>)>,
}

impl Reference {
    fn new(name: &str) -> Self {
        Self::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name))
    }

    fn read(folder: PathBuf) -> Self {
        tch::set_num_threads(2);
        let bytes = std::fs::read(folder.join("reference.safetensors")).expect("reference");
        let tensors: BTreeMap<String, Tensor> = SafeTensors::deserialize(&bytes)
            .expect("safetensors")
            .tensors()
            .into_iter()
            .map(|(name, view)| {
                let size: Vec<i64> = view.shape().iter().map(|&size| size as i64).collect();
                (name, Tensor::from_data_size(view.data(), &size, Kind::Float))
            })
            .collect();
        let numbers = |name: &str| Vec::<f32>::try_from(&tensors[name]).expect("numbers");
        let (ids, trained) = (numbers("input_ids"), numbers("trained"));
        let mut start = 0;
        let documents = numbers("lengths")
            .into_iter()
            .map(|length| {
                let range = start..start + length as usize;
                start = range.end;
                let ids = ids[range.clone()].iter().map(|&id| id as i32).collect();
                (ids, trained[range].iter().map(|&flag| flag == 1.0).collect())
            })
            .collect();
        Self { folder, tensors, documents }
    }

    fn model(&self) -> Model {
        let shape = Architecture::read(&self.folder.join("config.json")).expect("config");
        Model::load(&self.folder, shape, DType::F32, Device::Cpu).expect("checkpoint")
    }

    fn sequence(&self, order: &[usize]) -> Sequence {
        let mut sequence = Sequence::default();
        for &document in order {
            let (ids, trained) = &self.documents[document];
            sequence.push(ids, trained, 1.0);
        }
        sequence
    }
}

fn segments(sequence: &Sequence, model: &Model) -> Segments {
    Segments::new(sequence, &model.shape, Device::Cpu, model.kind)
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

fn relative(a: &Tensor, b: &Tensor) -> f64 {
    ((a - b).norm() / b.norm()).double_value(&[])
}

fn backward(model: &Model, sequence: &Sequence, divisor: f64, rows: i64) -> f64 {
    let segments = segments(sequence, model);
    let hidden = model.hidden(&segments);
    let loss = Head { rows }.loss(model, &hidden, &segments, Some(divisor));
    loss.surrogate.expect("a gradient was asked for").backward();
    loss.sum.double_value(&[]) / divisor
}

#[test]
fn logits_of_packed_documents_are_those_of_transformers_for_each_alone() {
    for name in MODELS {
        let reference = Reference::new(name);
        let model = reference.model();
        let sequence = reference.sequence(&[0, 1, 2, 3, 4]);
        let logits = tch::no_grad(|| model.logits(&segments(&sequence, &model)));
        let expected = &reference.tensors["logits"];
        let (furthest, relative) = (furthest(&logits, expected), relative(&logits, expected));
        println!("{name}: logits off by {furthest:.1e} at most, {relative:.1e} relative");
        assert!(furthest < 1e-5 && relative < 1e-6, "{name}: {furthest:e}, {relative:e}");
    }
}

#[test]
#[ignore = "needs FINCH_PARITY, a folder that make.py --checkpoint made; `make peers-torch` runs it"]
fn logits_of_the_checkpoint_that_the_environment_names() {
    let folder = std::env::var_os("FINCH_PARITY").expect("FINCH_PARITY");
    let reference = Reference::read(folder.into());
    let model = reference.model();
    let sequence = reference.sequence(&[0, 1, 2, 3, 4]);
    let logits = tch::no_grad(|| model.logits(&segments(&sequence, &model)));
    let relative = relative(&logits, &reference.tensors["logits"]);
    println!(
        "logits off by {:.1e} at most, {relative:.1e} relative",
        furthest(&logits, &reference.tensors["logits"])
    );
    assert!(relative < 1e-5, "{relative:e}");
}

#[test]
fn loss_and_every_gradient_are_those_of_transformers_in_slices_of_any_size() {
    for name in MODELS {
        let reference = Reference::new(name);
        for rows in [1000, 50, 7] {
            let model = reference.model();
            let sequence = reference.sequence(&[0, 1, 2, 3, 4]);
            let loss = backward(&model, &sequence, sequence.weight(), rows);
            let expected = reference.tensors["loss"].double_value(&[0]);
            assert!((loss - expected).abs() < 1e-6, "{name}: loss {loss}, {expected} expected");
            let mut worst = (0.0, 0.0);
            for (weight_name, weight) in &model.parameters {
                let expected = &reference.tensors[&format!("grad.{weight_name}")];
                let found = (furthest(&weight.grad(), expected), relative(&weight.grad(), expected));
                worst = (f64::max(worst.0, found.0), f64::max(worst.1, found.1));
            }
            println!(
                "{name}, {rows} rows: gradients off by {:.1e} at most, {:.1e} relative",
                worst.0, worst.1
            );
            assert!(worst.0 < 5e-7 && worst.1 < 2e-6, "{name}: {worst:?}");
        }
    }
}

#[test]
fn packed_documents_give_the_gradient_of_separate_ones_in_any_order() {
    for name in MODELS {
        let reference = Reference::new(name);
        let alone = reference.model();
        let divisor = reference.sequence(&[0, 1, 2, 3, 4]).weight();
        let separate: f64 =
            (0..5).map(|document| backward(&alone, &reference.sequence(&[document]), divisor, 1000)).sum();
        for order in [[0, 1, 2, 3, 4], [4, 2, 0, 3, 1]] {
            let packed = reference.model();
            let loss = backward(&packed, &reference.sequence(&order), divisor, 1000);
            assert!((loss - separate).abs() < 1e-6, "{name}: {loss} packed, {separate} separate");
            for ((name, packed), (_, alone)) in packed.parameters.iter().zip(&alone.parameters) {
                let off = relative(&packed.grad(), &alone.grad());
                assert!(off < 4e-6, "{name}: {off:e}");
            }
        }
    }
}

#[test]
fn a_document_does_not_see_its_neighbours() {
    let reference = Reference::new("qwen3");
    let model = reference.model();
    let logits = |order: &[usize]| {
        let sequence = reference.sequence(order);
        tch::no_grad(|| model.logits(&segments(&sequence, &model)))
    };
    // The last document of each sequence is the same; what stands before it is not.
    let length = reference.documents[1].0.len() as i64;
    let last = |all: Tensor| all.narrow(0, all.size()[0] - length, length);
    let alone = last(logits(&[1]));
    for before in [&[0, 1][..], &[3, 2, 1], &[4, 4, 1]] {
        let off = furthest(&last(logits(before)), &alone);
        assert!(off < 1e-5, "{before:?}: {off:e}");
    }
}

#[test]
fn ten_adamw_steps_have_the_losses_of_pytorch() {
    for name in MODELS {
        let reference = Reference::new(name);
        let text = std::fs::read(reference.folder.join("steps.json")).expect("steps");
        let steps: serde_json::Value = serde_json::from_slice(&text).expect("json");
        let number = |key: &str| steps["adamw"][key].as_f64().expect("number");
        let mut config = Config::new(Base::Checkpoint(reference.folder.clone()), number("lr"));
        config.beta1 = steps["adamw"]["betas"][0].as_f64().expect("beta");
        config.beta2 = steps["adamw"]["betas"][1].as_f64().expect("beta");
        config.epsilon = number("eps");
        config.weight_decay = number("weight_decay");
        let model = reference.model();
        let mut optimizer = AdamW::new(&model, &config);
        let sequence = reference.sequence(&[0, 1, 2, 3, 4]);
        let mut worst = 0.0;
        for expected in steps["losses"].as_array().expect("losses") {
            let loss = backward(&model, &sequence, sequence.weight(), 1000);
            let norm = optimizer.gradient_norm();
            optimizer.update(config.lr, (number("clip") / (norm + 1e-6)).min(1.0));
            worst = f64::max(worst, (loss - expected.as_f64().expect("loss")).abs());
        }
        println!("{name}: losses of ten steps off by {worst:.1e} at most");
        assert!(worst < 1e-6, "{name}: {worst:e}");
    }
}
