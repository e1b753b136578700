//! Layouts: which files of a folder make up one log, and above which folder a run's files lie.
//!
//! Some scaffolds spread a candidate over several files: code here, score there, the answer in a third. Their folder
//! is one log with many parts. Nothing here opens a file; what a file is was decided by its content.

use std::path::{Path, PathBuf};

use crate::ingest::format::Format;
use crate::ingest::recognise::Look;

/// What becomes of a file in a folder that is one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// It is read.
    Part,
    /// It repeats or sums up what others say.
    Known(&'static str),
    /// It is no part of the log; it may be a log of its own.
    Other,
}

/// A scaffold whose folder is one log.
pub(super) struct FolderLog {
    pub(super) format: Format,
    /// The folder of the log that a file shows to be one; never above `root`.
    pub(super) anchor: fn(&Path, &Look, &Path) -> Option<PathBuf>,
    /// What becomes of a file by its path inside that folder, `/`-joined.
    pub(super) part: fn(&str) -> Use,
}

/// All of them. A file that several would take goes to the first.
pub(super) const FOLDER_LOGS: [FolderLog; 6] = [
    FolderLog { format: Format::ShinkaFolder, anchor: shinka, part: shinka_part },
    FolderLog { format: Format::GepaFolder, anchor: gepa, part: gepa_part },
    FolderLog { format: Format::EohFolder, anchor: eoh, part: eoh_part },
    FolderLog { format: Format::ReevoFolder, anchor: reevo, part: reevo_part },
    FolderLog { format: Format::FunsearchFolder, anchor: funsearch, part: funsearch_part },
    FolderLog { format: Format::DgmFolder, anchor: dgm, part: dgm_part },
];

fn is_of(look: &Look, format: Format) -> bool {
    matches!(look, Look::Log(finding) if finding.format == format)
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or("")
}

/// The folder `up` levels above a file, or the lowest that is still inside the source.
fn above(path: &Path, up: usize, root: &Path) -> Option<PathBuf> {
    let inside = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    inside.take(up).last().map(Path::to_path_buf)
}

/// Whether a file is a scaffold's configuration, by its name: its content is anything.
pub(super) fn is_config(path: &Path) -> bool {
    let name = name(path);
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    ["yaml", "yml", "json"].contains(&extension)
        && (stem == "config" || stem.starts_with("config_") || stem == "experiment_config")
}

/// Whether a name is `before`, digits, and `after`.
fn numbered(name: &str, before: &str, after: &str) -> bool {
    let inner = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    inner.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn shinka(path: &Path, look: &Look, root: &Path) -> Option<PathBuf> {
    if is_of(look, Format::ShinkaFolder) {
        return above(path, 1, root);
    }
    let generation = path.parent().is_some_and(|folder| numbered(name(folder), "gen_", ""));
    let stem = name(path).split('.').next().unwrap_or("");
    (generation && ["main", "original"].contains(&stem)).then(|| above(path, 2, root)).flatten()
}

fn shinka_part(within: &str) -> Use {
    let (first, rest) = within.split_once('/').unwrap_or(("", within));
    if first.is_empty() {
        return match rest {
            "prompts.sqlite" | "prompts.sqlite-wal" => Use::Known("prompts that evolved beside the programs"),
            "meta_memory.json" => Use::Part,
            _ if rest.ends_with("-shm") => Use::Known("index of a write-ahead log"),
            _ if [".sqlite", ".sqlite3", ".db"].iter().any(|end| rest.ends_with(end)) => Use::Part,
            _ if rest.ends_with("-wal") => Use::Part,
            _ if rest.starts_with("meta_") || rest.ends_with(".log") || rest.ends_with(".pkl") => {
                Use::Known("notes and state of the scaffold")
            }
            _ => Use::Other,
        };
    }
    if first == "best" {
        return Use::Known("best copy");
    }
    if !numbered(first, "gen_", "") {
        return Use::Other;
    }
    let stem = rest.split('.').next().unwrap_or("");
    match rest {
        "results/metrics.json" | "results/correct.json" | "search_replace.txt" | "rewrite.txt" => Use::Part,
        _ if !rest.contains('/') && ["main", "original"].contains(&stem) => Use::Part,
        _ if rest.starts_with("attempts/") && rest.ends_with("/llm_response.txt") => Use::Part,
        _ if rest.starts_with("attempts/") && rest.ends_with("/metadata.json") => Use::Part,
        _ => Use::Known("files of an evaluation"),
    }
}

fn gepa(path: &Path, look: &Look, root: &Path) -> Option<PathBuf> {
    is_of(look, Format::GepaFolder).then(|| above(path, 1, root)).flatten()
}

fn gepa_part(within: &str) -> Use {
    match within {
        "gepa_state.bin" | "candidates.json" | "run_log.json" | "gepa_state.json" => Use::Part,
        _ if within.starts_with("proposer_calls/") && within.ends_with(".json") => Use::Part,
        _ if within.starts_with("generated_best_outputs_valset/") => Use::Known("outputs of evaluations"),
        _ if within.starts_with("fitness_cache/") => Use::Known("cache of evaluations"),
        _ if within.starts_with("iterations/") || within.starts_with("pareto/") => {
            Use::Known("copy of the state")
        }
        _ if within.contains('/') => Use::Other,
        _ if within.ends_with(".json") || within.ends_with(".jsonl") => Use::Known("summary"),
        _ => Use::Other,
    }
}

fn eoh(path: &Path, look: &Look, root: &Path) -> Option<PathBuf> {
    let folder = path.parent().map_or("", name);
    let up = if ["samples", "pops", "pops_best"].contains(&folder) { 2 } else { 1 };
    is_of(look, Format::EohFolder).then(|| above(path, up, root)).flatten()
}

fn eoh_part(within: &str) -> Use {
    let (first, rest) = within.split_once('/').unwrap_or(("", within));
    match (first, rest) {
        ("" | "samples", "samples_best.json") | ("pops_best", _) => Use::Known("best copy"),
        ("", "run_log.txt") => Use::Part,
        ("" | "samples", _) if rest.starts_with("samples_") && rest.ends_with(".json") => Use::Part,
        ("" | "pops", _) if numbered(rest, "population_generation_", ".json") => Use::Part,
        ("", _) if rest.starts_with("best_") => Use::Known("best copy"),
        ("evaluations", _) => Use::Known("files of an evaluation"),
        _ => Use::Other,
    }
}

fn reevo(path: &Path, _: &Look, root: &Path) -> Option<PathBuf> {
    response(name(path)).then(|| above(path, 1, root)).flatten()
}

/// `problem_iter<g>_response<i>.txt`.
fn response(name: &str) -> bool {
    let inner = name.strip_prefix("problem_iter").and_then(|rest| rest.strip_suffix(".txt"));
    let Some((iteration, number)) = inner.and_then(|inner| inner.split_once("_response")) else {
        return false;
    };
    [iteration, number].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

fn reevo_part(within: &str) -> Use {
    match within {
        ".hydra/config.yaml" => Use::Part,
        _ if within.contains('/') => Use::Other,
        "main.log" | "config.yaml" => Use::Part,
        _ if !within.starts_with("problem_iter") && !within.starts_with("best_code") => Use::Other,
        _ if within.contains("_reflection") => Use::Known("notes and state of the scaffold"),
        _ if within.starts_with("best_code") => Use::Known("best copy"),
        _ if response(within) || within.contains("_stdout") || within.contains("_code") => Use::Part,
        _ => Use::Other,
    }
}

fn funsearch(path: &Path, _: &Look, root: &Path) -> Option<PathBuf> {
    numbered(name(path), "response_", ".log").then(|| above(path, 1, root)).flatten()
}

fn funsearch_part(within: &str) -> Use {
    match within {
        _ if within.starts_with("sandbox") => Use::Known("files of an evaluation"),
        _ if numbered(within, "response_", ".log") || numbered(within, "prompt_", ".log") => Use::Part,
        _ => Use::Other,
    }
}

fn dgm(path: &Path, look: &Look, root: &Path) -> Option<PathBuf> {
    (is_of(look, Format::DgmFolder) && name(path) == "dgm_metadata.jsonl")
        .then(|| above(path, 1, root))
        .flatten()
}

fn dgm_part(within: &str) -> Use {
    match within.split_once('/') {
        None if within == "dgm_metadata.jsonl" => Use::Part,
        Some((_, "metadata.json" | "model_patch.diff")) => Use::Part,
        Some((_, rest)) if rest.ends_with(".md") || rest.contains('/') => {
            Use::Known("files of an evaluation")
        }
        _ => Use::Other,
    }
}

/// The folder of the run that a log of one file belongs to.
pub(super) fn run_folder(
    path: &Path,
    format: Format,
    root: &Path,
    is_program_root: impl Fn(&Path) -> bool,
) -> PathBuf {
    let own = above(path, 1, root).unwrap_or_else(|| root.to_path_buf());
    let nearest = || {
        let mut above = path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
        above.find(|folder| is_program_root(folder)).map(Path::to_path_buf)
    };
    match format {
        _ if format.is_program_file() => program_root(path, root),
        Format::OpenEvolveTrace | Format::OpenEvolveHdf5 | Format::OpenEvolveBulk => nearest().unwrap_or(own),
        Format::OpenEvolveConsole => nearest().unwrap_or_else(|| beside(path, &["logs"], root)),
        Format::ThetaBulk | Format::ThetaDatabase => nearest().unwrap_or_else(|| program_root(path, root)),
        // <experiment>/<island>/ckpt/ckpt_<epoch>.pkl
        Format::CodeEvolvePickle if path.parent().is_some_and(|folder| name(folder) == "ckpt") => {
            above(path, 3, root).unwrap_or(own)
        }
        Format::FunsearchPickle => beside(path, &["backups"], root),
        // nanodiscover: <run>/epoch<n>/evaluation.json
        Format::Mapped if path.parent().is_some_and(is_epoch) => above(path, 2, root).unwrap_or(own),
        Format::Mapped => beside(path, &["samples", "population"], root),
        _ => own,
    }
}

/// Whether a folder is called `epoch` and a number.
fn is_epoch(folder: &Path) -> bool {
    let number = name(folder).strip_prefix("epoch").unwrap_or("");
    !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
}

/// A file's folder, or the one above when it has one of these names.
fn beside(path: &Path, names: &[&str], root: &Path) -> PathBuf {
    let inside = path.parent().is_some_and(|folder| names.contains(&name(folder)));
    above(path, if inside { 2 } else { 1 }, root).unwrap_or_else(|| root.to_path_buf())
}

/// The unit of a program file: above `checkpoints/checkpoint_N/programs`, `checkpoint_N/programs` or
/// `<database>/programs`, and never above the source.
pub(super) fn program_root(path: &Path, root: &Path) -> PathBuf {
    let programs = path.parent().unwrap_or(root);
    let in_programs = name(programs) == "programs";
    let holder = if in_programs { programs.parent() } else { Some(programs) };
    let holder = holder.filter(|folder| folder.starts_with(root)).unwrap_or(root);
    let above = |folder: &Path| folder.parent().filter(|up| up.starts_with(root)).map(Path::to_path_buf);
    if name(holder).starts_with("checkpoint_") {
        let up = above(holder).unwrap_or_else(|| root.to_path_buf());
        return if name(&up) == "checkpoints" { above(&up).unwrap_or(up) } else { up };
    }
    // A database folder belongs to the run that it lies in, with its checkpoints and its trace.
    let traces = ["evolution_trace.jsonl", "evolution_trace.jsonl.gz", "evolution_trace.json"];
    match above(holder) {
        Some(up)
            if name(holder) == "db"
                || up.join("checkpoints").is_dir()
                || traces.iter().any(|trace| up.join(trace).is_file()) =>
        {
            up
        }
        _ => holder.to_path_buf(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_lie_above_their_checkpoints_and_never_above_the_source() {
        let root = Path::new("/s");
        let check = |path: &str, folder: &str| {
            assert_eq!(program_root(Path::new(path), root), Path::new(folder), "{path}");
        };
        check("/s/run/checkpoints/checkpoint_10/programs/a.json", "/s/run");
        check("/s/run/checkpoint_10/programs/a.json", "/s/run");
        check("/s/run/db/programs/a.json", "/s/run");
        check("/s/run/database/programs/a.json", "/s/run/database");
        check("/s/programs/a.json", "/s");
        check("/s/checkpoint_1/programs/a.json", "/s");
    }

    #[test]
    fn shinka_keeps_what_makes_a_candidate() {
        for (path, expected) in [
            ("gen_3/main.py", Use::Part),
            ("gen_3/original.lean", Use::Part),
            ("gen_3/attempts/novelty_1/resample_1/patch_2/metadata.json", Use::Part),
            ("gen_3/edit.diff", Use::Known("files of an evaluation")),
            ("best/main.py", Use::Known("best copy")),
            ("programs.sqlite-wal", Use::Part),
            ("programs.sqlite-shm", Use::Known("index of a write-ahead log")),
            ("initial.py", Use::Other),
        ] {
            assert_eq!(shinka_part(path), expected, "{path}");
        }
    }

    #[test]
    fn responses_of_reevo_are_told_by_their_names() {
        assert!(response("problem_iter0_response12.txt"));
        assert!(!response("problem_iter0_response12.txt_stdout.txt"));
        assert!(!response("problem_iter_response1.txt"));
    }
}
