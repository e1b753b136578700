//! The gradients that are written out against those of automatic differentiation, in every form: levels of what is kept,
//! adapters, ways to compute attention, micro-batches.

use finch_core::training::{DType, Lora, Projection};
use tch::{Device, Kind, Tensor};

use super::attention::Path;
use super::parity::{ALL, MODELS, Reference, backward, gradients, logits};
use super::reference::{self, distance};
use super::weights::{Trained, Weights};
use super::{Level, Model};
use finch_train::sequence::Sequence;

const LEVELS: [Level; 3] = [Level::Everything, Level::Lean, Level::Inputs];

#[test]
fn every_level_gives_the_gradient_of_automatic_differentiation() {
    for name in MODELS {
        let reference = Reference::new(name);
        let sequence = reference.sequence(&ALL);
        let model = reference.model();
        let truth =
            Model::new(Weights::copied(&model, Kind::Double, Device::Cpu).expect("weights")).expect("model");
        let right = reference::gradient(&truth, &truth.segments(&sequence), sequence.weight());
        let plain = reference::gradient(&model, &model.segments(&sequence), sequence.weight());
        let limit = right.distance_of(&truth, &plain, &model);
        for level in LEVELS {
            let model = reference.model();
            let loss = backward(&model, &sequence, sequence.weight(), level);
            assert!((loss - right.loss).abs() < 1e-6 * right.loss, "{name}: {loss}, {}", right.loss);
            let (off, weight) = right.distance(&truth, &model.parameters.gradients, &model.parameters);
            println!(
                "{name}, {level:?}: off by {off:.1e} at {weight}; automatic differentiation by {limit:.1e}"
            );
            assert!(off < 2.0 * limit, "{name}, {level:?}, {weight}: {off:e}");
        }
    }
}

#[test]
fn what_is_kept_changes_no_bit_of_the_gradient() {
    for name in MODELS {
        for dtype in [DType::F32, DType::Bf16] {
            let reference = Reference::new(name);
            let sequence = reference.sequence(&ALL);
            let flat = |levels: &[Level]| {
                let model = reference.model_of(dtype, &Trained::All);
                let mut seconds = super::step::Phases::default();
                super::step::add(&model, levels, &sequence, sequence.weight(), &mut seconds).expect("a step");
                model.parameters.gradients.shallow_clone()
            };
            let everything = flat(&[Level::Everything; 2]);
            assert!(everything.abs().sum(Kind::Double).double_value(&[]) > 0.0);
            for levels in [[Level::Lean; 2], [Level::Inputs; 2], [Level::Inputs, Level::Lean]] {
                assert!(flat(&levels).equal(&everything), "{name}, {dtype:?}, {levels:?}");
            }
        }
    }
}

#[test]
fn rows_that_are_not_trained_change_no_gradient_but_their_own() {
    // The last layer leaves them out behind attention; here a loss over all rows, of which some weigh nothing.
    let reference = Reference::new("qwen3");
    let sequence = reference.sequence(&ALL);
    let mut every =
        Sequence { rows: vec![], targets: vec![], weights: vec![], owners: vec![], ..sequence.clone() };
    for row in 0..sequence.ids.len() as i64 {
        let place = sequence.rows.iter().position(|known| *known == row);
        every.rows.push(row);
        every.targets.push(place.map_or(0, |place| sequence.targets[place]));
        every.weights.push(place.map_or(0.0, |place| sequence.weights[place]));
    }
    let (few, all) = (reference.model(), reference.model());
    let losses = [(&few, &sequence), (&all, &every)]
        .map(|(model, sequence)| backward(model, sequence, sequence.weight(), Level::Lean));
    assert!((losses[0] - losses[1]).abs() < 1e-6, "{losses:?}");
    let expected = gradients(&all);
    for (weight, gradient) in gradients(&few) {
        let off = distance(&gradient, &expected[&weight]);
        assert!(off < 4e-6, "{weight}: {off:e}");
    }
}

fn lora(targets: &[Projection]) -> Trained {
    Trained::Adapters(Lora { rank: 3, alpha: 6.0, targets: targets.iter().copied().collect() })
}

/// Gives the adapters' second matrices numbers; they begin as zero.
fn awaken(model: &Model) {
    tch::manual_seed(5);
    for (name, weight) in
        model.parameters.named(&model.parameters.weights).filter(|(name, _)| name.contains("lora_B"))
    {
        let drawn = Tensor::randn(weight.size().as_slice(), (Kind::Float, Device::Cpu)) * 0.1;
        tch::no_grad(|| weight.shallow_clone().copy_(&drawn));
        assert!(name.ends_with(".weight"));
    }
}

#[test]
fn adapters_begin_as_their_base_and_have_the_gradient_of_automatic_differentiation() {
    for name in MODELS {
        let reference = Reference::new(name);
        let sequence = reference.sequence(&ALL);
        let all: Vec<Projection> = Projection::all().into_iter().collect();
        for targets in [all.as_slice(), &[Projection::QProj, Projection::VProj], &[Projection::DownProj]] {
            let model = reference.model_of(DType::F32, &lora(targets));
            let base = logits(&reference.model(), &sequence);
            assert!(logits(&model, &sequence).equal(&base), "{name}: B is zero");
            awaken(&model);
            assert!(distance(&logits(&model, &sequence), &base) > 1e-3, "{name}");
            let right = reference::gradient(&model, &model.segments(&sequence), sequence.weight());
            assert_eq!(
                right.named(&model).count(),
                2 * 2 * targets.len(),
                "{name}: two matrices, two layers"
            );
            for level in LEVELS {
                tch::no_grad(|| model.parameters.zero_gradients());
                let loss = backward(&model, &sequence, sequence.weight(), level);
                assert!((loss - right.loss).abs() < 1e-5, "{name}: {loss}, {}", right.loss);
                let (off, weight) = right.distance(&model, &model.parameters.gradients, &model.parameters);
                assert!(off < 1e-5, "{name}, {level:?}, {weight}: {off:e}");
            }
        }
    }
}

#[test]
fn the_cpus_fused_attention_is_the_plain_one() {
    for name in MODELS {
        let reference = Reference::new(name);
        let sequence = reference.sequence(&ALL);
        let (fused, mut plain) = (reference.model(), reference.model());
        plain.attend_by(Path::Plain);
        for model in [&fused, &plain] {
            backward(model, &sequence, sequence.weight(), Level::Everything);
        }
        let expected = gradients(&plain);
        for (weight, gradient) in gradients(&fused) {
            let off = distance(&gradient, &expected[&weight]);
            assert!(off < 4e-6, "{name}, {weight}: {off:e}");
        }
    }
}

#[test]
fn a_split_into_micro_batches_does_not_change_the_norm_of_the_gradient() {
    for name in MODELS {
        let reference = Reference::new(name);
        // Eight documents in 1 x 8, 2 x 4 and 8 x 1, whose numbers of trained tokens differ.
        let documents = [0, 1, 2, 3, 4, 2, 0, 1];
        let divisor = reference.sequence(&documents).weight();
        let norms = [8, 4, 1].map(|size| {
            let model = reference.model();
            for group in documents.chunks(size) {
                backward(&model, &reference.sequence(group), divisor, Level::Lean);
            }
            super::optimizer::gradient_norm(&model.parameters)
        });
        for norm in norms {
            assert!((norm / norms[0] - 1.0).abs() < 1e-5, "{name}: {norms:?}");
        }
    }
}
