//! Datasets of packs for tests, written as finch writes them; and the program to run on them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int32Array, ListArray, RecordBatch, StringArray};
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema};
use finch_core::shard::{Cuts, TableWriter};
use finch_core::{Digest, Kind};
use serde_json::json;

/// A document.
#[derive(Clone, Debug)]
pub(crate) struct Doc {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) ids: Vec<i32>,
    pub(crate) trained: Vec<bool>,
    pub(crate) weight: f64,
    /// Of the step that it is of; empty where nothing labelled it.
    pub(crate) outcome: String,
}

/// A pack: its split and documents.
pub(crate) type PackOf = (Option<&'static str>, Vec<Doc>);

/// A folder with a dataset, a config and room for output.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

/// A program's end.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "--- out\n{}\n--- err\n{}", self.out, self.err);
        // With `--json` the error is an event on standard output.
        let said = format!("{}{}", self.err, self.out.replace("\\\"", "\""));
        for word in words {
            assert!(said.contains(word), "`{word}` is not in\n{said}");
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

/// A fixture's path.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// A small deterministic generator (a linear congruence; the constants are Knuth's MMIX), for test data alone.
pub(crate) fn numbers(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

/// Documents of random tokens below `vocabulary`, with the first third masked.
pub(crate) fn documents(count: usize, vocabulary: u64, seed: u64) -> Vec<Doc> {
    let mut next = numbers(seed);
    (0..count)
        .map(|n| {
            let length = 5 + next(40) as usize;
            // A walk with small steps, so that there is something to learn.
            let mut at = next(vocabulary);
            let ids = (0..length)
                .map(|_| {
                    at = (at + 1 + next(3)) % vocabulary;
                    at as i32
                })
                .collect();
            Doc {
                id: format!("{:064x}", n + 1),
                task: ["alpha", "beta"][n % 2].to_owned(),
                ids,
                trained: (0..length).map(|t| t > length / 3).collect(),
                weight: 1.0,
                outcome: String::new(),
            }
        })
        .collect()
}

fn list<T>(rows: &[Vec<T>], item: DataType, values: ArrayRef) -> ArrayRef {
    let mut ends = vec![0];
    for row in rows {
        ends.push(ends[ends.len() - 1] + row.len() as i32);
    }
    let field = Arc::new(Field::new("item", item, false));
    Arc::new(ListArray::new(field, OffsetBuffer::new(ScalarBuffer::from(ends)), values, None))
}

fn ints(rows: &[Vec<i32>]) -> ArrayRef {
    list(rows, DataType::Int32, Arc::new(Int32Array::from(rows.concat())))
}

fn texts(rows: &[Vec<String>]) -> ArrayRef {
    list(rows, DataType::Utf8, Arc::new(StringArray::from_iter_values(rows.concat())))
}

/// Writes a dataset of packs with its manifest.
pub(crate) fn write(folder: &Path, packs: &[PackOf]) {
    write_with(folder, packs, |_, _| {});
}

/// The same, with a chance to spoil the columns (by name, before they become a batch).
pub(crate) fn write_with(folder: &Path, packs: &[PackOf], spoil: impl Fn(&str, &mut ArrayRef)) {
    let mut packs: Vec<(String, &PackOf)> = packs
        .iter()
        .map(|pack| {
            let ids = pack.1.iter().fold(Kind::Example.fields(), |fields, doc| fields.text(&doc.id));
            (ids.finish().to_string(), pack)
        })
        .collect();
    packs.sort_by(|a, b| a.0.cmp(&b.0));
    fn rows<T>(packs: &[(String, &PackOf)], of: impl Fn(&Doc) -> Vec<T>) -> Vec<Vec<T>> {
        packs.iter().map(|(_, pack)| pack.1.iter().flat_map(&of).collect()).collect()
    }
    let ends: Vec<Vec<i32>> = packs
        .iter()
        .map(|(_, pack)| {
            let mut ends = vec![0];
            for doc in &pack.1 {
                ends.push(ends[ends.len() - 1] + doc.ids.len() as i32);
            }
            ends
        })
        .collect();
    let ids = rows(&packs, |doc| doc.ids.clone());
    let mask = rows(&packs, |doc| doc.trained.clone());
    let weights = rows(&packs, |doc| vec![doc.weight]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("pack_id", Arc::new(StringArray::from_iter_values(packs.iter().map(|pack| &pack.0)))),
        ("split", Arc::new(packs.iter().map(|pack| pack.1.0).collect::<StringArray>())),
        ("input_ids", ints(&ids)),
        ("loss_mask", list(&mask, DataType::Boolean, Arc::new(BooleanArray::from(mask.concat())))),
        ("position_ids", ints(&rows(&packs, |doc| (0..doc.ids.len() as i32).collect()))),
        ("cu_seqlens", ints(&ends)),
        ("example_ids", texts(&rows(&packs, |doc| vec![doc.id.clone()]))),
        ("tasks", texts(&rows(&packs, |doc| vec![doc.task.clone()]))),
        ("outcomes", texts(&rows(&packs, |doc| vec![doc.outcome.clone()]))),
        ("weights", list(&weights, DataType::Float64, Arc::new(Float64Array::from(weights.concat())))),
        (
            "trained_tokens",
            ints(&rows(&packs, |doc| vec![doc.trained.iter().filter(|t| **t).count() as i32])),
        ),
    ];
    let columns: Vec<(&str, ArrayRef)> = columns
        .into_iter()
        .map(|(name, mut column)| {
            spoil(name, &mut column);
            (name, column)
        })
        .collect();
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, column)| Field::new(*name, column.data_type().clone(), *name == "split"))
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(schema.clone(), columns.into_iter().map(|(_, column)| column).collect())
        .expect("batch");
    let _ = std::fs::remove_dir_all(folder.join("packs"));
    std::fs::create_dir_all(folder).expect("folder");
    let key = ["pack_id".to_owned()];
    let mut writer = TableWriter::new(folder, "packs", schema, &key, Cuts::default()).expect("writer");
    writer.write(&batch).expect("rows");
    let table = writer.finish().expect("table");
    let none = Kind::Dataset.of_text("test");
    let manifest = json!({
        "version": 1, "fingerprint": none, "kind": "pack", "code_version": 1, "parameters": {}, "inputs": {},
        "row_table": "packs", "tables": {"packs": table}, "artifacts": [], "rows": none, "bytes": none,
        "counts": {"input": 0, "used": 0, "merged": 0, "removed": 0, "quarantined": 0, "conserved": false, "reasons": {}},
        "toolchain": {},
    });
    std::fs::write(folder.join("manifest.json"), manifest.to_string()).expect("manifest");
    tokenizer(folder, &json!({"model": {"vocab": {"a": 0}}, "added_tokens": []}).to_string());
}

/// Gives a dataset its tokenizer.
pub(crate) fn tokenizer(folder: &Path, text: &str) {
    std::fs::write(folder.join("tokenizer.json"), text).expect("tokenizer");
    let path = folder.join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).expect("manifest")).expect("JSON");
    manifest["artifacts"] = json!([{
        "name": "tokenizer.json", "rows": 0, "bytes": text.len(), "sha256": "0".repeat(64),
        "blake3": Digest::of_bytes(text.as_bytes()),
    }]);
    std::fs::write(path, manifest.to_string()).expect("manifest");
}

/// Packs of a few documents each: two of three packs are trained on, the third is `test`.
pub(crate) fn packed(documents: Vec<Doc>, each: usize) -> Vec<PackOf> {
    documents
        .chunks(each)
        .enumerate()
        .map(|(n, docs)| (Some(if n % 3 == 2 { "test" } else { "train" }), docs.to_vec()))
        .collect()
}

impl Bench {
    /// A dataset, and a config for the fixture model.
    pub(crate) fn new(packs: &[PackOf], config: &str) -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("temp dir") };
        write(&bench.path("data"), packs);
        bench.config(config);
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces the config; `{fixtures}` is the fixtures' folder.
    pub(crate) fn config(&self, text: &str) {
        let text = text.replace("{fixtures}", &fixture("").display().to_string());
        std::fs::write(self.path("config.toml"), text).expect("config");
    }

    /// The program with arguments, in the bench's folder.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finch-train"));
        command.args(arguments).current_dir(self.folder.path()).env("NO_COLOR", "1");
        command.env_remove("FINCH_LIBTORCH").stdin(Stdio::null());
        command
    }

    pub(crate) fn finch_train(&self, arguments: &[&str]) -> Ended {
        ended(&mut self.command(arguments))
    }

    /// Trains into a folder.
    #[cfg(feature = "torch")]
    pub(crate) fn train(&self, out: &str) -> Ended {
        self.finch_train(&["run", "config.toml", "--data", "data", "--out", out, "--json"])
    }
}

pub(crate) fn ended(command: &mut Command) -> Ended {
    let output = command.output().expect("the program runs");
    Ended {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
