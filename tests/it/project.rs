//! A temporary project: logs, a spec, and the binary to run on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

/// What a command printed and how it ended.
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    /// Fails the test unless the command succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "exit code\n--- out\n{}\n--- err\n{}", self.out, self.err);
        self
    }

    /// Fails the test unless the command ended with this code and said all these words.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, code, "exit code\n--- out\n{}\n--- err\n{}", self.out, self.err);
        for word in words {
            assert!(self.err.contains(word), "`{word}` is not in\n{}", self.err);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
        self
    }
}

/// The repository's folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs finch in a folder.
pub(crate) fn finch_in(folder: &Path, arguments: &[&str]) -> Output {
    finch_with(folder, &[], arguments)
}

/// Runs finch in a folder, with variables of its environment.
pub(crate) fn finch_with(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let output = command(folder, variables, arguments).output().expect("the binary runs");
    Output {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The command that runs finch in a folder.
pub(crate) fn command(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_finch"));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1").envs(variables.iter().copied());
    command
}

/// A project in a temporary folder, with logs below `logs/` and the spec `spec.toml`.
pub(crate) struct Project {
    folder: tempfile::TempDir,
}

/// A spec that labels everything in `logs`.
pub(crate) const LABEL: &str = r#"
[pipeline]
store = "store"
seed = 1

[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.labelled]
kind = "label"
input = "logs"
"#;

impl Project {
    /// An empty project with a spec.
    pub(crate) fn new(spec: &str) -> Self {
        let project = Self { folder: tempfile::tempdir().expect("temp dir") };
        project.write("spec.toml", spec);
        fs::create_dir_all(project.path("logs")).expect("logs");
        project
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
        fs::write(path, content).expect("write");
    }

    pub(crate) fn finch(&self, arguments: &[&str]) -> Output {
        finch_in(self.root(), arguments)
    }

    /// Runs the spec.
    pub(crate) fn run(&self) -> Output {
        self.finch(&["run", "spec.toml"])
    }

    /// Runs the spec with a trainer, which `FINCH_TRAIN` names.
    pub(crate) fn run_with_trainer(&self, trainer: &str) -> Output {
        finch_with(self.root(), &[("FINCH_TRAIN", trainer)], &["run", "spec.toml"])
    }

    /// The shards of a table, in row order.
    pub(crate) fn files(&self, table: &str) -> Vec<PathBuf> {
        let paths = self.finch(&["path", "--store", "store", table]).ok().out;
        paths.lines().map(|path| self.root().join(path)).collect()
    }

    /// Rows of a query over the store.
    #[track_caller]
    pub(crate) fn rows(&self, sql: &str) -> Vec<Value> {
        let output = self.finch(&["query", "--store", "store", "--format", "json", sql]).ok();
        serde_json::from_str(&output.out).expect("JSON")
    }

    /// The first column of a query's only row.
    #[track_caller]
    pub(crate) fn value(&self, sql: &str) -> Value {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows[0].as_object().expect("an object").values().next().expect("a column").clone()
    }

    /// Adds an OpenEvolve program to the checkpoint of a run.
    pub(crate) fn program(&self, run: &str, program: &Program) {
        let path = format!("logs/{run}/checkpoints/checkpoint_10/programs/{}.json", program.id);
        self.write(&path, program.json().to_string());
    }
}

/// An OpenEvolve program file.
#[derive(Clone)]
pub(crate) struct Program {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) code: String,
    pub(crate) metrics: Value,
    pub(crate) parent_metrics: Value,
    pub(crate) iteration: i64,
    pub(crate) answer: Option<String>,
}

/// A UUID made from a number.
pub(crate) fn uuid(n: u64) -> String {
    format!("00000000-0000-4000-8000-{n:012x}")
}

impl Program {
    /// The `n`th program of a run, a child of `parent`, scored.
    pub(crate) fn new(n: u64, parent: Option<u64>, score: f64) -> Self {
        Self {
            id: uuid(n),
            parent: parent.map(uuid),
            code: format!("def f():\n    return {n}\n"),
            metrics: json!({"combined_score": score}),
            parent_metrics: json!({}),
            iteration: n as i64,
            answer: parent.map(|_| format!("```python\ndef f():\n    return {n}\n```")),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let prompts = self.answer.as_ref().map(|answer| {
            json!({"full_rewrite_user": {
                "system": "You improve programs.",
                "user": format!("Improve this program. Its number is {}.", self.id),
                "responses": [answer],
            }})
        });
        json!({
            "id": self.id, "code": self.code, "language": "python", "parent_id": self.parent,
            "generation": self.iteration, "timestamp": 1_700_000_000.5 + self.iteration as f64,
            "iteration_found": self.iteration, "metrics": self.metrics, "complexity": 0.0, "diversity": 0.0,
            "metadata": {"changes": "Full rewrite", "parent_metrics": self.parent_metrics, "island": 0},
            "prompts": prompts, "artifacts_json": null, "artifact_dir": null,
        })
    }
}

/// The `rows` (or `weights`) and `bytes` digests of every stage of the last build, and of every table in it.
pub(crate) fn digests(store: &Path) -> BTreeMap<String, (String, String)> {
    let newest = fs::read_dir(store.join("builds"))
        .expect("builds")
        .map(|entry| entry.expect("entry").path())
        .max()
        .expect("a build");
    let build: Value = serde_json::from_slice(&fs::read(newest).expect("read")).expect("JSON");
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut digests = BTreeMap::new();
    for stage in build["stages"].as_array().expect("stages") {
        let name = text(&stage["name"]);
        let path = store.join("datasets").join(text(&stage["fingerprint"])).join("manifest.json");
        let manifest: Value = serde_json::from_slice(&fs::read(path).expect("manifest")).expect("JSON");
        for (table, entry) in manifest["tables"].as_object().expect("tables") {
            let pair = (text(&entry["rows_digest"]), text(&entry["bytes_digest"]));
            digests.insert(format!("{name}.{table}"), pair);
        }
        let content = manifest.get("rows").unwrap_or(&manifest["weights"]);
        digests.insert(name, (text(content), text(&manifest["bytes"])));
    }
    digests
}
