//! How a search is written down: checkpoints of one file a program, or a trace of one line a step.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::search::{Candidate, Search};

/// Steps between two checkpoints.
const INTERVAL: u64 = 20;

/// What has been written, and how far it may go.
#[derive(Clone, Copy, Default)]
pub(crate) struct Written {
    pub(crate) bytes: u64,
    /// Files that hold records.
    pub(crate) files: u64,
}

/// Where to stop.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    Bytes(u64),
    Files(u64),
}

impl Limit {
    /// The part of it that the first `runs` of `of` may take.
    pub(crate) fn part(self, runs: u64, of: u64) -> Self {
        let part = |whole: u64| (u128::from(whole) * u128::from(runs) / u128::from(of)) as u64;
        match self {
            Self::Bytes(bytes) => Self::Bytes(part(bytes)),
            Self::Files(files) => Self::Files(part(files)),
        }
    }

    fn reached(self, written: Written) -> bool {
        match self {
            Self::Bytes(bytes) => written.bytes >= bytes,
            Self::Files(files) => written.files >= files,
        }
    }
}

/// A program file, in the order of its writer.
#[derive(Serialize)]
struct Program<'a> {
    id: &'a str,
    code: String,
    language: &'static str,
    parent_id: Option<&'a str>,
    generation: u64,
    timestamp: f64,
    iteration_found: u64,
    metrics: &'a Map<String, Value>,
    complexity: f64,
    diversity: f64,
    metadata: Value,
    prompts: Option<Value>,
    artifacts_json: Option<String>,
}

impl<'a> Program<'a> {
    fn new(candidate: &'a Candidate) -> Self {
        let parent = candidate.parent.as_deref();
        let mut metadata = json!({"island": candidate.island});
        if let Some(parent) = parent {
            metadata["changes"] = candidate.changes.as_str().into();
            metadata["parent_metrics"] = Value::Object(parent.metrics.clone());
        }
        if candidate.migrant {
            metadata["migrant"] = true.into();
        }
        let template = if candidate.changes == "Full rewrite" { "full_rewrite_user" } else { "diff_user" };
        let prompts = (!candidate.user.is_empty()).then(|| {
            let prompt =
                json!({"system": candidate.system, "user": candidate.user, "responses": [candidate.response]});
            json!({template: prompt})
        });
        Self {
            id: &candidate.id,
            code: candidate.code(),
            language: "python",
            parent_id: parent.map(|parent| parent.id.as_str()),
            generation: candidate.generation,
            timestamp: candidate.timestamp,
            iteration_found: candidate.iteration,
            metrics: &candidate.metrics,
            complexity: 0.0,
            diversity: 0.0,
            metadata,
            prompts,
            artifacts_json: (!candidate.artifacts.is_empty())
                .then(|| Value::Object(candidate.artifacts.clone()).to_string()),
        }
    }
}

/// Writes `checkpoints/checkpoint_N/programs/<id>.json` until the limit, to the file.
pub(crate) fn checkpoints(
    search: &mut Search,
    folder: &Path,
    limit: Limit,
    written: &mut Written,
) -> io::Result<()> {
    loop {
        for _ in 0..INTERVAL {
            search.step();
        }
        let checkpoint = folder.join(format!("checkpoints/checkpoint_{}", search.iteration));
        fs::create_dir_all(checkpoint.join("programs"))?;
        let ids: Vec<&str> = search.population.iter().map(|candidate| candidate.id.as_str()).collect();
        let about = json!({"islands": [ids], "last_iteration": search.iteration, "current_island": 0});
        fs::write(checkpoint.join("metadata.json"), about.to_string())?;
        for candidate in &search.population {
            if limit.reached(*written) {
                return Ok(());
            }
            let body = serde_json::to_vec(&Program::new(candidate))?;
            fs::write(checkpoint.join("programs").join(format!("{}.json", candidate.id)), &body)?;
            written.bytes += body.len() as u64;
            written.files += 1;
        }
    }
}

/// A line of a trace, in the order of its writer.
#[derive(Serialize)]
struct Step<'a> {
    iteration: u64,
    timestamp: f64,
    parent_id: &'a str,
    child_id: &'a str,
    parent_metrics: &'a Map<String, Value>,
    child_metrics: &'a Map<String, Value>,
    parent_code: String,
    child_code: String,
    prompt: Value,
    llm_response: &'a str,
    island_id: usize,
    generation: u64,
    #[serde(skip_serializing_if = "Map::is_empty")]
    artifacts: &'a Map<String, Value>,
    metadata: Value,
}

/// Writes `evolution_trace.jsonl` until the limit, to the line.
pub(crate) fn trace(
    search: &mut Search,
    folder: &Path,
    limit: Limit,
    written: &mut Written,
) -> io::Result<()> {
    let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join("evolution_trace.jsonl"))?);
    written.files += 1;
    while search.iteration == 0 || !limit.reached(*written) {
        let child = search.step();
        let Some(parent) = child.parent.as_deref() else { continue };
        let mut line = serde_json::to_vec(&Step {
            iteration: child.iteration,
            timestamp: child.timestamp,
            parent_id: &parent.id,
            child_id: &child.id,
            parent_metrics: &parent.metrics,
            child_metrics: &child.metrics,
            parent_code: parent.code(),
            child_code: child.code(),
            prompt: json!({"system": child.system, "user": child.user}),
            llm_response: &child.response,
            island_id: child.island,
            generation: child.generation,
            artifacts: &child.artifacts,
            metadata: json!({"changes": child.changes, "iteration_time": 61.25}),
        })?;
        line.push(b'\n');
        file.write_all(&line)?;
        written.bytes += line.len() as u64;
    }
    file.flush()
}
