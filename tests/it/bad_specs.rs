//! Bad specs and what finch says about each: `bad_specs/NAME.toml` with the words in `NAME.txt` beside it.
//!
//! The specs are checked in a copy of `bad_specs/project`. `FINCH_REWRITE=1` writes the words anew; read the
//! difference before committing it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use finch_core::code::Code;

use crate::project::{finch_in, repository};

/// The variable that has golden files written instead of compared.
pub(crate) const REWRITE: &str = "FINCH_REWRITE";

/// Whether that was asked for; an empty variable asks for nothing.
pub(crate) fn rewrites() -> bool {
    std::env::var_os(REWRITE).is_some_and(|asked| !asked.is_empty())
}

/// What stands for a secret in these specs; no output may hold it.
const SECRET: &str = "verysecret";

fn folder() -> PathBuf {
    repository().join("tests/it/bad_specs")
}

/// All specs, by name.
fn specs() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("list").map(|entry| entry.expect("entry").path());
    let mut specs: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    specs.sort();
    specs
}

/// Copies a folder; links stay links.
pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("list") {
        let path = entry.expect("entry").path();
        let target = to.join(path.file_name().expect("name"));
        if path.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&path).expect("a link"), &target).expect("link");
        } else if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).expect("copy");
        }
    }
}

/// Compares a text with a golden file, or writes the file when asked to; the answer is what differs.
pub(crate) fn differs(file: &Path, text: &str) -> Option<String> {
    if rewrites() {
        fs::write(file, text).expect("write");
        return None;
    }
    let golden = fs::read_to_string(file).unwrap_or_default();
    (golden != text).then(|| format!("--- {}\n{golden}--- now\n{text}", file.display()))
}

#[test]
fn every_mistake_is_named_placed_and_explained() {
    let project = tempfile::tempdir().expect("temp dir");
    copy(&folder().join("project"), project.path());
    let specs = specs();
    assert!(specs.len() >= 60, "{}", specs.len());
    let mut wrong = Vec::new();
    for spec in &specs {
        fs::copy(spec, project.path().join("spec.toml")).expect("copy");
        let name = spec.file_stem().expect("name").to_string_lossy();
        let output = finch_in(project.path(), &["check", "spec.toml"]).fails(2, &["error F"]);
        assert_eq!(output.out, "", "{name}");
        assert!(!output.err.contains(SECRET), "{name} shows a secret:\n{}", output.err);
        let controls = |c: char| c.is_control() && c != '\n';
        assert!(!output.err.contains(controls), "{name} writes control characters:\n{:?}", output.err);
        wrong.extend(differs(&spec.with_extension("txt"), &output.err));
    }
    assert!(wrong.is_empty(), "{REWRITE}=1 writes anew:\n{}", wrong.join("\n"));
    let made: Vec<_> = fs::read_dir(project.path()).expect("list").flatten().collect();
    let given = fs::read_dir(folder().join("project")).expect("list").count();
    assert_eq!(made.len(), given + 1, "something was written: {made:?}");
}

#[test]
fn a_secret_on_the_command_line_is_not_repeated() {
    let url = format!("s3://key:{SECRET}@bucket");
    let url = url.as_str();
    let project = tempfile::tempdir().expect("temp dir");
    for arguments in [
        &["builds", "--store", url][..],
        &["verify", "--store", url],
        &["query", "--store", url, "SELECT 1"],
        &["check", url],
        &["inspect", url],
    ] {
        let output = finch_in(project.path(), arguments);
        assert!(output.code >= 2 && !output.err.is_empty(), "{arguments:?}: {}", output.err);
        assert!(!format!("{}{}", output.out, output.err).contains(SECRET), "{arguments:?}: {}", output.err);
    }
}

/// The golden words of all specs.
fn words() -> String {
    let read = |spec: &PathBuf| fs::read_to_string(spec.with_extension("txt")).expect("golden words");
    specs().iter().map(read).collect()
}

#[test]
fn every_code_of_specs_has_a_golden_spec_and_an_explanation() {
    let words = words();
    for code in Code::ALL.iter().filter(|code| (**code as u16) < 303) {
        assert!(words.contains(&format!("error {code}\n")), "no golden spec shows {code}");
        let said = finch_in(repository(), &["explain", &code.to_string()]).ok().out;
        assert!(said.starts_with(&format!("{code}  ")) && said.contains(code.meaning()), "{said}");
    }
    let shown = words.split("error F").skip(1).map(|rest| format!("F{}", &rest[..4]));
    for code in shown.collect::<BTreeSet<_>>() {
        assert!(Code::named(&code).is_some(), "{code} is no code");
    }
}

/// Every stage kind, as finch lists them.
pub(crate) fn kinds() -> Vec<String> {
    let known = fs::read_to_string(folder().join("stages_kind_far.txt")).expect("golden words");
    let list = known.split_once("known: ").expect("the kinds are listed").1;
    let kinds: Vec<String> = list.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(kinds.len() >= 10, "{kinds:?}");
    kinds
}

#[test]
fn every_stage_kind_has_golden_specs() {
    let specs = specs();
    for kind in kinds() {
        let own = specs.iter().filter(|spec| {
            spec.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&format!("{kind}_")))
        });
        assert!(own.count() >= 3, "{kind} has too few bad specs");
    }
}

#[test]
fn no_golden_word_is_left_behind() {
    for entry in fs::read_dir(folder()).expect("list") {
        let path = entry.expect("entry").path();
        let spec = path.with_extension("toml");
        assert!(path.is_dir() || spec.is_file(), "{} has no spec", path.display());
    }
}

#[test]
fn a_spec_cut_off_anywhere_is_no_panic() {
    let whole = fs::read(repository().join("data/init/pipeline.toml")).expect("read");
    let mut checked = 0;
    for end in (0..whole.len()).step_by(7) {
        let text = String::from_utf8_lossy(&whole[..end]).into_owned();
        let read = finch::spec::parse(Path::new("spec.toml"), &text, Path::new("."));
        if let Err(finch::Error::Spec(error)) = read {
            assert!(!error.diagnostics.is_empty());
            for diagnostic in &error.diagnostics {
                let (line, column) = error.position(&diagnostic.span);
                assert!(line >= 1 && column >= 1 && diagnostic.span.start <= text.len());
            }
            checked += 1;
        }
    }
    assert!(checked > 50, "{checked}");
}
