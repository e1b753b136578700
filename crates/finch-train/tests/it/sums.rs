//! Sums that must not depend on how the data is cut: gradients over micro-batches, losses over packs.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type};
use finch_core::training::{Event, Step};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::dataset::{Bench, Doc, documents, fixture, packed, write};

const CONFIG: &str = "base = \"{fixtures}qwen3\"\nsteps = 1\nbatch_packs = 8\nlr = 1e-3\neval_tokens = 1";

/// The first step of a training.
fn first_step(bench: &Bench, out: &str) -> Step {
    let output = bench.train(out).ok().out;
    let step = output.lines().find_map(|line| match serde_json::from_str(line) {
        Ok(Event::Step(step)) => Some(step),
        _ => None,
    });
    step.expect("a step")
}

#[test]
fn the_gradient_norm_does_not_depend_on_micro_batches() {
    let bench = Bench::new(&packed(documents(36, 160, 5), 3), CONFIG);
    let steps = [1, 2, 8].map(|micro| {
        bench.config(&format!("{CONFIG}\nmicro_packs = {micro}"));
        first_step(&bench, &format!("micro-{micro}"))
    });
    println!("8x1, 4x2, 1x8: {:?}", steps.each_ref().map(|step| step.grad_norm));
    for step in &steps {
        assert_eq!((step.examples, step.batch), (24, steps[0].batch));
        assert!((step.grad_norm - steps[0].grad_norm).abs() < 1e-5 * steps[0].grad_norm, "{steps:?}");
        assert!((step.loss - steps[0].loss).abs() < 1e-5, "{steps:?}");
    }
}

#[test]
fn an_example_of_weight_two_counts_twice_and_one_of_weight_zero_not_at_all() {
    let docs = documents(4, 160, 9);
    let loss = |weights: &[f64]| {
        let weighted = weights.iter().enumerate().map(|(n, &weight)| Doc {
            id: format!("{n:064x}"),
            weight,
            ..docs[n % 4].clone()
        });
        let bench = Bench::new(&[(Some("train"), weighted.collect())], CONFIG);
        let step = first_step(&bench, "out");
        (step.loss, step.grad_norm)
    };
    let near = |a: (f64, f64), b: (f64, f64)| (a.0 - b.0).abs() < 1e-6 && (a.1 - b.1).abs() < 1e-5;
    let plain = loss(&[1.0; 4]);
    assert!(near(loss(&[2.0, 1.0, 1.0, 1.0]), loss(&[1.0; 5])), "the fifth is the first again");
    assert!(near(loss(&[1.0, 1.0, 1.0, 1.0, 0.0]), plain));
    assert!(!near(loss(&[0.0, 1.0, 1.0, 1.0]), plain));
}

/// Losses by example and position.
fn tokens(path: &Path) -> BTreeMap<(String, i32), f64> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).expect("file")).expect("parquet");
    let mut found = BTreeMap::new();
    for batch in reader.build().expect("reader") {
        let batch = batch.expect("batch");
        let column = |name: &str| batch.column_by_name(name).expect("column");
        let ids = column("example_id").as_string::<i32>();
        let positions = column("position").as_primitive::<Int32Type>();
        let losses = column("loss").as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            found.insert((ids.value(row).to_owned(), positions.value(row)), losses.value(row));
        }
    }
    found
}

#[test]
fn a_tokens_loss_does_not_depend_on_the_pack_of_its_example_or_its_neighbours() {
    let docs = documents(30, 160, 7);
    let mut reversed = docs.clone();
    reversed.reverse();
    let bench = Bench::new(&packed(docs.clone(), 3), CONFIG);
    let model = fixture("qwen3").display().to_string();
    let losses = |name: &str, docs: &[Doc], each: usize| {
        let packs: Vec<_> = docs.chunks(each).map(|docs| (Some("test"), docs.to_vec())).collect();
        write(&bench.path(name), &packs);
        let file = format!("{name}.parquet");
        bench.finch_train(&["eval", &model, "--data", name, "--per-token", &file]).ok();
        tokens(&bench.path(&file))
    };
    let alone = losses("alone", &docs, 1);
    assert_eq!(alone.len(), docs.iter().map(|doc| doc.trained.iter().filter(|t| **t).count()).sum::<usize>());
    let mut worst = 0.0;
    // Documents in packs of their own may still go through the model together; in datasets of their own they cannot.
    for doc in &docs[..4] {
        for (key, loss) in losses("single", std::slice::from_ref(doc), 1) {
            worst = f64::max(worst, (loss - alone[&key]).abs());
        }
    }
    for (name, docs, each) in [("fives", &docs, 5), ("one", &docs, 30), ("reversed", &reversed, 7)] {
        let packed = losses(name, docs, each);
        assert_eq!(packed.len(), alone.len());
        worst = packed.iter().map(|(key, loss)| (loss - alone[key]).abs()).fold(worst, f64::max);
    }
    println!("per-token losses, packed against alone: off by {worst:.1e} at most");
    assert!(worst < 1e-5, "{worst:e}");
}
