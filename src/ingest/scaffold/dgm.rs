//! DGM: an output folder with one folder for each child, whose program is a patch on its parent.
//!
//! A child's `model_patch.diff` is its own change; the program is the chain of them on a seed that lies elsewhere. So
//! the text of a candidate here is that chain, from the first to the last, which is all that the log has. The seed is
//! `initial`, known as a parent alone.

use std::collections::{BTreeMap, HashSet};

use finch_core::{Digest, Kind};
use serde_json::{Map, Value};

use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess::Failure;
use crate::ingest::open::{self, MAX_DOCUMENT};
use crate::ingest::record::{FileLog, Quarantined, Record};
use crate::ingest::{LogFile, Scratch, json};

/// The seed's name.
const SEED: &str = "initial";

/// The longest chain of patches that is followed.
const LONGEST: usize = 1000;

/// A child as its folder describes it.
struct Child {
    part: u32,
    parent: String,
    patch: Option<String>,
    said: Map<String, Value>,
}

/// Reads one output folder.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let generations = match file.part("dgm_metadata.jsonl") {
        Some(part) => generations(file, part, &mut log)?,
        None => BTreeMap::new(),
    };
    let mut children: BTreeMap<String, Child> = BTreeMap::new();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        let Some(folder) = of_file.within.strip_suffix("/metadata.json") else { continue };
        let Some(said) = object(file, part, &mut log)? else { continue };
        let patch = match file.part(&format!("{folder}/model_patch.diff")) {
            Some(part) => open::text(file, part, &mut log)?.filter(|patch| !patch.trim().is_empty()),
            None => None,
        };
        let id = json::id(&said, "run_id").unwrap_or_else(|| folder.to_owned());
        let parent = json::id(&said, "parent_commit").unwrap_or_else(|| SEED.to_owned());
        children.insert(id, Child { part, parent, patch, said });
    }
    let run = file.digest.unwrap_or_else(|| Digest::of_bytes(&[]));
    for (id, child) in &children {
        let Some(text) = chain(id, &children) else {
            let mut bad = Quarantined::file(Code::NoProgram, format!("child `{id}` has no patch"), file);
            bad.digest = Kind::Unit.fields().digest(run).text(id).finish();
            log.quarantined.push(bad.in_part(file, child.part));
            continue;
        };
        let metrics = json::object(&child.said, "overall_performance");
        log.records.push(Record {
            native_id: id.clone(),
            parents: vec![child.parent.clone()],
            program: Some(scratch.program(&text, Some("diff"))?),
            generation: generations.get(id).copied(),
            iteration: generations.get(id).copied(),
            failure: metrics.is_empty().then_some(Failure::NoScore),
            metrics,
            feedback: scratch.text(json::text(&child.said, "problem_statement").unwrap_or(""))?,
            part: child.part,
            source: file.source_of(child.part),
            digest: Some(Kind::Unit.fields().digest(run).text(id).finish()),
            ..Record::default()
        });
    }
    Ok(log)
}

/// The patches from the seed to a child, each under a heading.
fn chain(id: &str, children: &BTreeMap<String, Child>) -> Option<String> {
    let mut patches = Vec::new();
    let mut at = id;
    // A child that says it descends from itself would be its own patch a thousand times.
    let mut seen = HashSet::new();
    while let Some(child) = children.get(at).filter(|_| patches.len() < LONGEST && seen.insert(at)) {
        patches.push((at, child.patch.as_deref()?));
        at = &child.parent;
    }
    patches.reverse();
    (!patches.is_empty())
        .then(|| patches.iter().map(|(id, patch)| format!("# patch of {id}\n{patch}\n")).collect())
}

fn object(file: &LogFile, part: u32, log: &mut FileLog) -> Result<Option<Map<String, Value>>> {
    let bytes = match open::part(file, part, MAX_DOCUMENT)? {
        Ok(bytes) => bytes,
        Err(bad) => {
            log.quarantined.push(bad);
            return Ok(None);
        }
    };
    match json::parse_counting(&bytes, &mut log.replaced) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => {
            let bad = Quarantined::new(Code::BadRecord, "not a JSON object", file, 0, &bytes);
            log.quarantined.push(bad.in_part(file, part));
            Ok(None)
        }
        Err(error) => {
            log.quarantined.push(Quarantined::not_json(&error, file, 0, &bytes).in_part(file, part));
            Ok(None)
        }
    }
}

/// The generation of each child. The file is called JSON lines and is objects one after another, on many lines each.
fn generations(file: &LogFile, part: u32, log: &mut FileLog) -> Result<BTreeMap<String, i64>> {
    let bytes = match open::part(file, part, MAX_DOCUMENT)? {
        Ok(bytes) => bytes,
        Err(bad) => {
            log.quarantined.push(bad);
            return Ok(BTreeMap::new());
        }
    };
    let mut out = BTreeMap::new();
    let mut values = serde_json::Deserializer::from_slice(&bytes).into_iter::<Value>();
    loop {
        let offset = values.byte_offset();
        match values.next() {
            None => return Ok(out),
            Some(Ok(Value::Object(said))) => {
                let generation = json::integer(&said, "generation");
                let children = said.get("children").and_then(Value::as_array);
                for child in children.into_iter().flatten().filter_map(Value::as_str) {
                    if let Some(generation) = generation {
                        out.entry(child.to_owned()).or_insert(generation);
                    }
                }
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                let code = if error.is_eof() { Code::Truncated } else { Code::NotJson };
                let rest = bytes.get(offset..).unwrap_or_default();
                let bad = Quarantined::new(code, error.to_string(), file, offset as u64, rest);
                log.quarantined.push(bad.in_part(file, part));
                return Ok(out);
            }
        }
    }
}
