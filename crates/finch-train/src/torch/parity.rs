//! The model against `transformers` on tiny random checkpoints of every family (`tests/fixtures/make.py` made the
//! references).
//!
//! The bars leave rounding in f32 little room: logits to 1e-5, gradients to 2e-6 of their norm, losses of ten steps to
//! 1e-6. In bf16 the bar is how far `transformers` itself is from its own f32.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use finch_core::training::{Base, Config, DType};
use finch_train::architecture::Architecture;
use finch_train::sequence::Sequence;
use safetensors::SafeTensors;
use tch::{Device, Kind, Tensor};

use super::optimizer::{AdamW, gradient_norm};
use super::reference::distance;
use super::step::{self, Phases};
use super::weights::{Trained, Weights};
use super::{Level, Model};

/// Every family, tied and not, with biases and without.
pub(crate) const MODELS: [&str; 5] = ["qwen3", "qwen3-tied", "qwen2", "llama", "llama-bias"];

/// A fixture: a checkpoint, documents, and what `transformers` makes of them.
pub(crate) struct Reference {
    pub(crate) folder: PathBuf,
    tensors: BTreeMap<String, Tensor>,
    documents: Vec<(Vec<i32>, Vec<bool>)>,
}

impl Reference {
    pub(crate) fn new(name: &str) -> Self {
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

    pub(crate) fn model(&self) -> Model {
        self.model_of(DType::F32, &Trained::All)
    }

    pub(crate) fn model_of(&self, dtype: DType, trained: &Trained) -> Model {
        let shape = Architecture::read(&self.folder.join("config.json")).expect("config");
        let weights = Weights::load(&self.folder, shape, dtype, Device::Cpu, trained, 1).expect("checkpoint");
        Model::new(weights).expect("model")
    }

    /// Documents as they are trained on.
    pub(crate) fn sequence(&self, order: &[usize]) -> Sequence {
        let mut sequence = Sequence::default();
        for &document in order {
            let (ids, trained) = &self.documents[document];
            sequence.push(ids, trained, 1.0);
        }
        sequence
    }

    fn json(&self, name: &str) -> serde_json::Value {
        let text = std::fs::read(self.folder.join(name)).expect("file");
        serde_json::from_slice(&text).expect("json")
    }
}

/// All documents, in their order.
pub(crate) const ALL: [usize; 5] = [0, 1, 2, 3, 4];

/// Logits of every row, `[T, vocabulary]`. Training never makes them all at once.
pub(crate) fn logits(model: &Model, sequence: &Sequence) -> Tensor {
    let every = Sequence { rows: (0..sequence.ids.len() as i64).collect(), ..sequence.clone() };
    tch::no_grad(|| {
        let (states, _) = model.states(&model.segments(&every), None).expect("states");
        states.linear(&model.head.weight.value, None::<Tensor>)
    })
}

/// Adds up the gradient of a sequence's mean loss; the loss.
pub(crate) fn backward(model: &Model, sequence: &Sequence, divisor: f64, level: Level) -> f64 {
    let levels = vec![level; model.shape.layers()];
    step::add(model, &levels, sequence, divisor, &mut Phases::default()).expect("a step")
}

/// The gradients by name.
pub(crate) fn gradients(model: &Model) -> BTreeMap<String, Tensor> {
    model.parameters.named(&model.parameters.gradients).collect()
}

fn furthest(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn logits_of_packed_documents_are_those_of_transformers_for_each_alone() {
    for name in MODELS {
        let reference = Reference::new(name);
        let logits = logits(&reference.model(), &reference.sequence(&ALL));
        let expected = &reference.tensors["logits"];
        let (furthest, relative) = (furthest(&logits, expected), distance(&logits, expected));
        println!("{name}: logits off by {furthest:.1e} at most, {relative:.1e} relative");
        assert!(furthest < 1e-5 && relative < 1e-6, "{name}: {furthest:e}, {relative:e}");
    }
}

#[test]
#[ignore = "needs FINCH_PARITY, a folder that make.py --checkpoint made; `make peers-torch` runs it"]
fn logits_of_the_checkpoint_that_the_environment_names() {
    let folder = std::env::var_os("FINCH_PARITY").expect("FINCH_PARITY");
    let reference = Reference::read(folder.into());
    let logits = logits(&reference.model(), &reference.sequence(&ALL));
    let expected = &reference.tensors["logits"];
    let relative = distance(&logits, expected);
    println!("logits off by {:.1e} at most, {relative:.1e} relative", furthest(&logits, expected));
    assert!(relative < 1e-5, "{relative:e}");
}

#[test]
fn loss_and_every_gradient_are_those_of_transformers_in_slices_of_any_size() {
    for name in MODELS {
        let reference = Reference::new(name);
        for rows in [1000, 50, 7] {
            let mut model = reference.model();
            model.head.rows = rows;
            let sequence = reference.sequence(&ALL);
            let loss = backward(&model, &sequence, sequence.weight(), Level::Everything);
            let expected = reference.tensors["loss"].double_value(&[0]);
            assert!((loss - expected).abs() < 1e-6, "{name}: loss {loss}, {expected} expected");
            let mut worst = (0.0, 0.0);
            let gradients = gradients(&model);
            assert_eq!(
                gradients.len(),
                reference.tensors.keys().filter(|key| key.starts_with("grad.")).count()
            );
            for (weight, gradient) in gradients {
                let expected = &reference.tensors[&format!("grad.{weight}")];
                let found = (furthest(&gradient, expected), distance(&gradient, expected));
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
        let divisor = reference.sequence(&ALL).weight();
        let one =
            |document: usize| backward(&alone, &reference.sequence(&[document]), divisor, Level::Everything);
        let separate: f64 = (0..5).map(one).sum();
        let expected = gradients(&alone);
        for order in [ALL, [4, 2, 0, 3, 1]] {
            let packed = reference.model();
            let loss = backward(&packed, &reference.sequence(&order), divisor, Level::Everything);
            assert!((loss - separate).abs() < 1e-6, "{name}: {loss} packed, {separate} separate");
            for (weight, gradient) in gradients(&packed) {
                let off = distance(&gradient, &expected[&weight]);
                assert!(off < 4e-6, "{name}, {weight}: {off:e}");
            }
        }
    }
}

#[test]
fn a_document_does_not_see_its_neighbours() {
    for name in MODELS {
        let reference = Reference::new(name);
        let model = reference.model();
        // The last document of each sequence is the same; what stands before it is not.
        let length = reference.documents[1].0.len() as i64;
        let last = |order: &[usize]| {
            let all = logits(&model, &reference.sequence(order));
            all.narrow(0, all.size()[0] - length, length)
        };
        let alone = last(&[1]);
        for before in [&[0, 1][..], &[3, 2, 1], &[4, 4, 1]] {
            let off = furthest(&last(before), &alone);
            assert!(off < 1e-5, "{name}, {before:?}: {off:e}");
        }
    }
}

#[test]
fn ten_adamw_steps_have_the_losses_of_pytorch() {
    for name in MODELS {
        let reference = Reference::new(name);
        let steps = reference.json("steps.json");
        let number = |key: &str| steps["adamw"][key].as_f64().expect("number");
        let mut config = Config::new(Base::Checkpoint(reference.folder.clone()), number("lr"));
        config.beta1 = steps["adamw"]["betas"][0].as_f64().expect("beta");
        config.beta2 = steps["adamw"]["betas"][1].as_f64().expect("beta");
        config.epsilon = number("eps");
        config.weight_decay = number("weight_decay");
        let model = reference.model();
        let mut optimizer = AdamW::new(&model.parameters, &config);
        let sequence = reference.sequence(&ALL);
        let mut worst = 0.0;
        for expected in steps["losses"].as_array().expect("losses") {
            let loss = backward(&model, &sequence, sequence.weight(), Level::Lean);
            let norm = gradient_norm(&model.parameters);
            let scale = (number("clip") / (norm + 1e-6)).min(1.0);
            optimizer.update(&model.parameters, config.lr, scale).expect("an update");
            worst = f64::max(worst, (loss - expected.as_f64().expect("loss")).abs());
        }
        println!("{name}: losses of ten steps off by {worst:.1e} at most");
        assert!(worst < 1e-6, "{name}: {worst:e}");
    }
}

#[test]
fn bf16_is_as_near_to_f32_as_that_of_transformers() {
    for name in MODELS {
        let reference = Reference::new(name);
        let theirs = &reference.json("rounding.json")["bf16"];
        let model = reference.model_of(DType::Bf16, &Trained::All);
        let sequence = reference.sequence(&ALL);
        let off = distance(&logits(&model, &sequence), &reference.tensors["logits"]);
        let limit = theirs["logits"].as_f64().expect("number");
        println!("{name}: logits off by {off:.1e}, those of transformers by {limit:.1e}");
        assert!(off < 1.2 * limit, "{name}: {off:e}, {limit:e}");
        let loss = backward(&model, &sequence, sequence.weight(), Level::Lean);
        let expected = reference.tensors["loss"].double_value(&[0]);
        assert!((loss - expected).abs() < 1e-2 * expected, "{name}: loss {loss}, {expected} expected");
        let (mut ours, mut limit, mut worst) = (0.0, 0.0, 0.0f64);
        for (weight, gradient) in gradients(&model) {
            let off = distance(&gradient, &reference.tensors[&format!("grad.{weight}")]);
            let other = theirs["gradients"][&weight].as_f64().expect("number");
            (ours, limit, worst) = (ours + off, limit + other, worst.max(off / other));
        }
        println!("{name}: gradients off by {:.2} of those of transformers, {worst:.2} at most", ours / limit);
        assert!(ours < 1.1 * limit && worst < 2.0, "{name}: {ours:e}, {limit:e}, {worst}");
    }
}
