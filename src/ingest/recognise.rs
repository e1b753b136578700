//! What a file is, by its content: the keys of its records, the first bytes of databases and pickles.
//!
//! Names are asked only where content cannot tell, and then for the kind of file alone. How certain a finding is, and
//! what it rests on, is kept for people: `finch inspect` shows both.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::archive::{self, stream};
use super::format::Format;
use super::mapping::{self, Mapping, certainty};
use super::open;
use super::shape::{Container, Shape};

/// What a file is.
#[derive(Clone, Debug)]
pub enum Look {
    /// A log, or a part of one.
    Log(Finding),
    /// Files in one file.
    Archive,
    /// Of a known kind, and repeats or sums up what logs say; why it is not read.
    Known(&'static str),
    /// Looks like a log and is none that is known.
    Foreign,
    /// Neither: text, pictures, sources. A folder's layout may still make it a part of a log.
    Other,
}

/// What shows that a file is a log.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The form.
    pub format: Format,
    /// The mapping, for mapped records.
    pub mapping: Option<Arc<Mapping>>,
    /// From 0.7, when all that must be there is there, to 1.
    pub certainty: f64,
    /// What it rests on, in words.
    pub evidence: String,
}

/// Bytes that are looked at: the keys of a record may stand behind a long program.
pub(super) const HEAD: usize = 1 << 20;

/// The signature of a form.
struct Signature {
    format: Format,
    container: &'static [Container],
    keys: &'static [&'static str],
    telling: &'static [&'static str],
    /// Keys of the first object inside.
    inner: &'static [&'static str],
}

const ONE: &[Container] = &[Container::Object];
const LIST: &[Container] = &[Container::Array];
/// A file of lines that holds one line is one object.
const LINES: &[Container] = &[Container::Lines, Container::Object];

/// The most certain signature wins; of equally certain ones the first.
const SIGNATURES: &[Signature] = &[
    Signature {
        format: Format::OpenEvolveTrace,
        container: LINES,
        keys: &["parent_id", "child_id"],
        telling: &["iteration", "parent_metrics", "child_metrics", "improvement_delta"],
        inner: &[],
    },
    Signature {
        format: Format::OpenEvolveTrace,
        container: ONE,
        keys: &["metadata", "traces"],
        telling: &[],
        inner: &[],
    },
    Signature {
        format: Format::ThetaProgram,
        container: ONE,
        keys: &["id", "code", "code_hash"],
        telling: &["parent_id", "metrics"],
        inner: &[],
    },
    Signature {
        format: Format::OpenEvolveProgram,
        container: ONE,
        keys: &["id", "code", "metrics", "parent_id"],
        telling: &["generation", "timestamp", "iteration_found", "complexity", "diversity"],
        inner: &[],
    },
    Signature {
        format: Format::SkyDiscoverProgram,
        container: ONE,
        keys: &["id", "solution"],
        telling: &["metrics", "parent_id", "iteration_found", "other_context_ids", "parent_info"],
        inner: &[],
    },
    Signature {
        format: Format::ThetaDatabase,
        container: ONE,
        keys: &["programs", "last_iteration"],
        telling: &["training_step", "current_island"],
        inner: &[],
    },
    Signature {
        format: Format::ThetaBulk,
        container: ONE,
        keys: &[],
        telling: &[],
        inner: &["id", "code", "code_hash"],
    },
    Signature {
        format: Format::OpenEvolveBulk,
        container: ONE,
        keys: &[],
        telling: &[],
        inner: &["id", "code", "metrics", "parent_id"],
    },
    Signature {
        format: Format::EohFolder,
        container: LIST,
        keys: &["sample_order", "code", "objective"],
        telling: &["operator", "algorithm"],
        inner: &[],
    },
    Signature {
        format: Format::EohFolder,
        container: LIST,
        keys: &["algorithm", "code", "objective"],
        telling: &["other_inf"],
        inner: &[],
    },
    Signature {
        format: Format::GepaFolder,
        container: LIST,
        keys: &["i", "selected_program_candidate"],
        telling: &["subsample_scores", "subsample_ids"],
        inner: &[],
    },
    Signature {
        format: Format::GepaFolder,
        container: ONE,
        keys: &["program_candidates", "parent_program_for_candidate"],
        telling: &["prog_candidate_val_subscores"],
        inner: &[],
    },
    Signature {
        format: Format::DgmFolder,
        container: LINES,
        keys: &["generation", "selfimprove_entries", "children"],
        telling: &["children_compiled", "archive"],
        inner: &[],
    },
];

/// Shapes of what scaffolds write beside their records, and why it is not read.
const BESIDE: &[(&str, &[&str], &[Container])] = &[
    ("best copy", &["id", "metrics", "saved_at"], ONE),
    ("best copy", &["sample_order", "operator", "algorithm", "code", "objective"], ONE),
    ("best copy", &["algorithm", "code", "objective"], ONE),
    ("summary", &["best_program_id", "last_iteration"], ONE),
    ("summary", &["num_islands", "current_island", "global_best_score"], ONE),
    ("summary", &["unprocessed_programs", "meta_summary"], ONE),
    ("summary", &["nominal_budget", "total_cost"], ONE),
    ("statistics", &["iteration", "global", "islands", "sampling"], LINES),
    ("statistics", &["eval_num", "elapsed", "best_score"], LINES),
    ("statistics", &["call_id", "prompt_tokens", "completion_tokens"], LINES),
    ("statistics", &["program_id", "selected_attempt_id", "status"], LINES),
];

/// How the names of archives end, of those that are opened and of those that are not.
const ARCHIVES: [&str; 12] = [
    ".tar", ".tgz", ".tzst", ".zip", ".tar.gz", ".tar.zst", ".tar.bz2", ".tar.xz", ".tbz2", ".txz", ".7z",
    ".rar",
];

/// Names of what repeats or sums up records, where its content does not say so.
const SUMMARIES: [&str; 5] =
    ["metadata.json", "best_program_info.json", "meta_memory.json", "samples_best.json", "prompts.sqlite"];

/// What a file is. `given` is the mapping that the user named for it.
pub fn look(path: &Path, given: Option<&Arc<Mapping>>) -> Look {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    if let Some(mapping) = given {
        return match mapping::may_be(&name, mapping) && is_detected(path, mapping) {
            true => Look::Log(Finding {
                format: Format::Mapped,
                mapping: Some(mapping.clone()),
                certainty: 1.0,
                evidence: "the spec names a mapping for it".to_owned(),
            }),
            false => Look::Other,
        };
    }
    if SUMMARIES.contains(&name.as_str()) && name != "metadata.json" {
        return Look::Known("summary");
    }
    let plain = [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let extension = plain.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "json" | "jsonl" | "ndjson" => json(path, &name),
        "sqlite" | "sqlite3" | "db" => Look::Log(Finding {
            format: Format::ShinkaFolder,
            mapping: None,
            certainty: 0.7,
            evidence: "a SQLite database".to_owned(),
        }),
        "pkl" | "pickle" | "bin" => pickle(path),
        "parquet" => parquet(path),
        "csv" => csv(path),
        "h5" | "hdf5" => hdf5(path, &name),
        "log" => console(path),
        _ if ARCHIVES.iter().any(|end| name.ends_with(end)) => match archive::kind_of(path) {
            Ok(Some(_)) => Look::Archive,
            // Cut so short that nothing can be taken out, or of a kind that is not opened.
            _ => Look::Foreign,
        },
        _ => Look::Other,
    }
}

/// The first bytes of a file, decompressed. Fewer where it ends, or where it is damaged.
fn head(path: &Path, bytes: usize) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(plain) = stream::open(path) {
        // A file that is cut inside its compressed data still shows its head.
        let _ = plain.take(bytes as u64).read_to_end(&mut head);
    }
    head
}

/// Whether a file is one of those that a mapping says it is for; all are, where it says nothing.
fn is_detected(path: &Path, mapping: &Mapping) -> bool {
    mapping.detect.is_empty() || shape(path).is_none_or(|shape| mapping.fits(&shape).is_some())
}

/// The shape of a JSON file, by its beginning.
pub(super) fn shape(path: &Path) -> Option<Shape> {
    Shape::of(&head(path, 64 << 10))
}

fn json(path: &Path, name: &str) -> Look {
    // Most files show themselves in a few kilobytes; a long program may stand before the keys that tell.
    let mut head = head(path, 64 << 10);
    if let Some(look) = Shape::of(&head).as_ref().and_then(of_shape) {
        return look;
    }
    if head.len() == 64 << 10 {
        head = self::head(path, HEAD);
        if let Some(look) = Shape::of(&head).as_ref().and_then(of_shape) {
            return look;
        }
    }
    // A first line that is damaged does not show a shape, and its keys may still be there.
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    if has(b"\"parent_id\"") && has(b"\"child_id\"") {
        return Look::Log(Finding {
            format: Format::OpenEvolveTrace,
            mapping: None,
            certainty: 0.7,
            evidence: "`parent_id` and `child_id`, in what is no whole record".to_owned(),
        });
    }
    if name == "metadata.json" { Look::Known("summary") } else { Look::Foreign }
}

/// What a shape is, if it is known.
fn of_shape(shape: &Shape) -> Option<Look> {
    let mut best: Option<Finding> = None;
    let mut offer = |finding: Finding| {
        if best.as_ref().is_none_or(|best| finding.certainty > best.certainty) {
            best = Some(finding);
        }
    };
    for signature in SIGNATURES.iter().filter(|s| s.container.contains(&shape.container)) {
        if !signature.inner.iter().all(|key| shape.inner.iter().any(|own| own == key)) {
            continue;
        }
        if let Some(certainty) = certainty(shape, signature.keys, signature.telling) {
            let keys = if signature.keys.is_empty() { signature.inner } else { signature.keys };
            let evidence = format!("the keys `{}`", keys.join("`, `"));
            offer(Finding { format: signature.format, mapping: None, certainty, evidence });
        }
    }
    for mapping in mapping::built_in() {
        if let Some(finding) = mapped(mapping, shape) {
            offer(finding);
        }
    }
    if let Some(finding) = best {
        return Some(Look::Log(finding));
    }
    let beside =
        BESIDE.iter().find(|(_, keys, containers)| containers.contains(&shape.container) && shape.has(keys));
    beside.map(|(why, ..)| Look::Known(why))
}

fn mapped(mapping: &Arc<Mapping>, shape: &Shape) -> Option<Finding> {
    let (certainty, signature) = mapping.fits(shape)?;
    let evidence = format!("the keys `{}`", signature.keys.join("`, `"));
    Some(Finding { format: Format::Mapped, mapping: Some(mapping.clone()), certainty, evidence })
}

/// Pickles are told by the names in them: of classes, or of a state's keys.
fn pickle(path: &Path) -> Look {
    let head = head(path, HEAD);
    let has = |word: &str| head.windows(word.len()).any(|window| window == word.as_bytes());
    let named = [
        (Format::CodeEvolvePickle, "codeevolve.database", 1.0),
        (Format::GepaFolder, "program_candidates", 1.0),
        (Format::FunsearchPickle, "programs_database", 0.9),
    ];
    // Protocols 2 to 5 begin so; older ones have no mark.
    if !matches!(head[..], [0x80, 2..=5, ..]) {
        // Cut before its first bytes, or none at all.
        let is_meant =
            path.extension().is_some_and(|extension| extension != "bin") || path.ends_with("gepa_state.bin");
        return if is_meant { Look::Foreign } else { Look::Other };
    }
    match named.into_iter().find(|(_, word, _)| has(word)) {
        Some((format, word, certainty)) => {
            let evidence = format!("a pickle that names `{word}`");
            Look::Log(Finding { format, mapping: None, certainty, evidence })
        }
        None => Look::Known("pickle of another kind"),
    }
}

fn parquet(path: &Path) -> Look {
    let columns = |file: File| {
        let reader = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).ok()?;
        Some(reader.schema().fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>())
    };
    let columns = File::open(path).ok().and_then(|file| open::guarded(|| columns(file)).flatten());
    columns.map_or(Look::Foreign, |columns| of_columns(columns).unwrap_or(Look::Foreign))
}

fn csv(path: &Path) -> Look {
    let head = head(path, 64 << 10);
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let names =
        line.trim_start_matches('\u{feff}').split(',').map(|name| name.trim().trim_matches('"').to_owned());
    // Tables of figures stand beside many logs.
    of_columns(names.collect()).unwrap_or(Look::Known("table of figures"))
}

fn of_columns(keys: Vec<String>) -> Option<Look> {
    let shape = Shape { container: Container::Table, keys, inner: Vec::new() };
    let findings = mapping::built_in().iter().filter_map(|mapping| mapped(mapping, &shape));
    findings.max_by(|a, b| a.certainty.total_cmp(&b.certainty)).map(Look::Log)
}

/// An evolution trace in HDF5, by its name: HDF5 files of other kinds are common.
fn hdf5(path: &Path, name: &str) -> Look {
    let trace = name.starts_with("evolution_trace") && head(path, 8).starts_with(b"\x89HDF");
    if !trace {
        return Look::Other;
    }
    Look::Log(Finding {
        format: Format::OpenEvolveHdf5,
        mapping: None,
        certainty: 0.9,
        evidence: "an HDF5 file of that name".to_owned(),
    })
}

/// What OpenEvolve printed names its modules in every line.
fn console(path: &Path) -> Look {
    let head = head(path, 64 << 10);
    let word = b" - openevolve.";
    match head.windows(word.len()).any(|window| window == word) {
        true => Look::Log(Finding {
            format: Format::OpenEvolveConsole,
            mapping: None,
            certainty: 0.8,
            evidence: "lines of the modules of `openevolve`".to_owned(),
        }),
        false => Look::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(Format, &str)>) {
        let shape = Shape::of(text.as_bytes()).expect("a shape");
        let found = match of_shape(&shape) {
            Some(Look::Log(finding)) => {
                let scaffold = finding.mapping.map(|mapping| mapping.scaffold);
                Some((finding.format, scaffold.or(finding.format.scaffold()).unwrap_or_default()))
            }
            _ => None,
        };
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn forms_are_told_by_their_keys() {
        let program = r#"{"id": "a", "code": "x", "parent_id": null, "generation": 0, "metrics": {}}"#;
        check(program, Some((Format::OpenEvolveProgram, "openevolve")));
        check(&format!("{{\"a\": {program}}}"), Some((Format::OpenEvolveBulk, "openevolve")));
        check(
            r#"{"id": "a", "solution": "x", "metrics": {}}"#,
            Some((Format::SkyDiscoverProgram, "skydiscover")),
        );
        check(
            r#"{"iteration": 1, "parent_id": "a", "child_id": "b", "child_metrics": {}}"#,
            Some((Format::OpenEvolveTrace, "openevolve")),
        );
        check(
            r#"[{"sample_order": 1, "operator": "i1", "algorithm": "", "code": "", "objective": null}]"#,
            Some((Format::EohFolder, "eoh")),
        );
        check(r#"[{"algorithm": "", "function": "", "score": 1}]"#, Some((Format::Mapped, "llm4ad")));
        check(r#"{"sample_order": 1, "function": "", "score": 1}"#, Some((Format::Mapped, "llmsr")));
        check(r#"{"nodes": [], "node2parent": {}}"#, Some((Format::Mapped, "aide")));
        check(r#"{"step": 1, "states": [], "puct_n": {}}"#, Some((Format::Mapped, "tttdiscover")));
        check(r#"{"epoch": 1, "evaluated": [{}]}"#, Some((Format::Mapped, "nanodiscover")));
    }

    #[test]
    fn what_repeats_records_is_no_log() {
        check(r#"{"id": "a", "generation": 1, "metrics": {}, "saved_at": 1.0}"#, None);
        check(r#"{"algorithm": "", "code": "", "objective": 1}"#, None);
        check(r#"{"a": {"b": 1}}"#, None);
    }
}
