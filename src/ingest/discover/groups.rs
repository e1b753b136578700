//! Files of a source, sorted: which of them make up a log, and which logs a unit.
//!
//! A folder that is one log takes its parts first; what is left are logs of one file each, files that look like logs
//! and are none, and files that hold no records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use super::layout::{self, FOLDER_LOGS, Use, run_folder};
use super::relative;
use super::tree::Seen;
use crate::ingest::format::Format;
use crate::ingest::recognise::{Finding, Look};

/// JSON files in a folder `programs` are programs, also when they are damaged: of the form that others there have.
pub(super) fn by_place(files: &mut [Seen]) {
    let folder = |file: &Seen| {
        let parent = file.path.parent()?;
        let is_programs = parent.file_name().is_some_and(|name| name == "programs");
        let is_json = file.path.extension().is_some_and(|extension| extension == "json");
        (is_programs && is_json).then(|| parent.to_path_buf())
    };
    let mut forms: HashMap<PathBuf, Format> = HashMap::new();
    for file in files.iter() {
        if let (Some(folder), Look::Log(finding)) = (folder(file), &file.look)
            && finding.format.is_program_file()
        {
            let form = forms.entry(folder).or_insert(finding.format);
            *form = (*form).min(finding.format);
        }
    }
    for file in files.iter_mut() {
        let Some(folder) = folder(file) else { continue };
        if matches!(file.look, Look::Log(_)) {
            continue;
        }
        let format = forms.get(&folder).copied().unwrap_or(Format::OpenEvolveProgram);
        let evidence = "its place in a folder `programs`".to_owned();
        file.placed = true;
        file.look = Look::Log(Finding { format, mapping: None, certainty: 0.5, evidence });
    }
}

/// A log's files before they are hashed.
pub(super) struct Group {
    pub(super) format: Format,
    pub(super) path: PathBuf,
    pub(super) files: Vec<Seen>,
    pub(super) finding: Finding,
}

/// Files by what becomes of them.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) units: BTreeMap<(PathBuf, &'static str), Vec<Group>>,
    pub(super) foreign: Vec<Seen>,
    pub(super) ignored: Vec<(&'static str, Seen)>,
}

impl Groups {
    /// Sorts looked-at files. What is not of the wanted `scaffold` is foreign.
    pub(super) fn of(files: Vec<Seen>, root: &Path, scaffold: Option<&str>) -> Self {
        let mut out = Self::default();
        let wanted = |format: Format| scaffold.is_none_or(|wanted| format.scaffold() == Some(wanted));
        // The folders that are logs, with what shows it.
        let mut folders: Vec<BTreeMap<PathBuf, Finding>> = vec![BTreeMap::new(); FOLDER_LOGS.len()];
        for file in &files {
            for (rule, folders) in FOLDER_LOGS.iter().zip(&mut folders) {
                if !wanted(rule.format) {
                    continue;
                }
                let Some(folder) = (rule.anchor)(&file.path, &file.look, root) else { continue };
                let finding = match &file.look {
                    Look::Log(finding) if finding.format == rule.format => finding.clone(),
                    _ => Finding {
                        format: rule.format,
                        mapping: None,
                        certainty: 0.9,
                        evidence: format!("files named like `{}`", relative(&file.path, &folder)),
                    },
                };
                let best = folders.entry(folder).or_insert_with(|| finding.clone());
                if finding.certainty > best.certainty {
                    *best = finding;
                }
            }
        }
        let mut of_folders: BTreeMap<(PathBuf, usize), Vec<Seen>> = BTreeMap::new();
        let mut rest = Vec::new();
        for file in files {
            match place(&file, &folders, root) {
                Some((folder, rule, Use::Part)) => of_folders.entry((folder, rule)).or_default().push(file),
                Some((.., Use::Known(why))) => out.ignored.push((why, file)),
                _ => rest.push(file),
            }
        }
        for ((folder, rule), files) in of_folders {
            let Some(finding) = folders[rule].remove(&folder) else { continue };
            let format = FOLDER_LOGS[rule].format;
            let scaffold = format.scaffold().unwrap_or_default();
            let group = Group { format, path: folder.clone(), files, finding };
            out.units.entry((folder, scaffold)).or_default().push(group);
        }
        let program_roots: BTreeSet<PathBuf> = rest
            .iter()
            .filter_map(|file| match &file.look {
                Look::Log(finding) if finding.format.is_program_file() => {
                    Some(run_folder(&file.path, finding.format, root, |_| false))
                }
                _ => None,
            })
            .collect();
        for file in rest {
            match file.look.clone() {
                Look::Log(finding) if FOLDER_LOGS.iter().any(|rule| rule.format == finding.format) => {
                    // It has the shape of a part, and its folder has another layout.
                    out.foreign.push(file);
                }
                Look::Log(finding) => {
                    let own = finding.mapping.as_ref().map(|mapping| mapping.scaffold);
                    let own = own.or(finding.format.scaffold()).unwrap_or_default();
                    // A mapping that the spec names is for its source, whatever the scaffold's name.
                    if scaffold.is_some_and(|wanted| wanted != own) {
                        out.foreign.push(file);
                        continue;
                    }
                    let folder =
                        run_folder(&file.path, finding.format, root, |at| program_roots.contains(at));
                    let path = file.path.clone();
                    let group = Group { format: finding.format, path, files: vec![file], finding };
                    out.units.entry((folder, own)).or_default().push(group);
                }
                Look::Foreign if is_beside(&file.path, root) => {
                    out.ignored.push(("files of an evaluation", file));
                }
                Look::Foreign if layout::is_config(&file.path) => out.ignored.push(("configuration", file)),
                Look::Foreign => out.foreign.push(file),
                Look::Known(why) => out.ignored.push((why, file)),
                // An archive inside an archive.
                Look::Archive => out.foreign.push(file),
                Look::Other => out.ignored.push(("no records", file)),
            }
        }
        out.adopt_configs();
        out
    }

    /// Configurations that lie in the folder of a unit, or in its folder `.hydra`, belong to it.
    fn adopt_configs(&mut self) {
        let mut rest = Vec::new();
        for (why, file) in std::mem::take(&mut self.ignored) {
            let folder = file.path.parent();
            let folder = match folder.and_then(Path::file_name).is_some_and(|name| name == ".hydra") {
                true => folder.and_then(Path::parent),
                false => folder,
            };
            let is_config = layout::is_config(&file.path);
            let folder = folder.filter(|_| is_config).map(Path::to_path_buf);
            let home = folder.and_then(|folder| {
                // Scaffolds that share a folder share its configuration; the first in order has it.
                let mut from = self.units.range((folder.clone(), "")..).map(|(key, _)| key);
                from.next().filter(|(at, _)| *at == folder).cloned()
            });
            let Some(logs) = home.and_then(|home| self.units.get_mut(&home)) else {
                rest.push((why, file));
                continue;
            };
            let evidence = "a configuration beside it".to_owned();
            let finding = Finding { format: Format::Config, mapping: None, certainty: 1.0, evidence };
            let path = file.path.clone();
            logs.push(Group { format: Format::Config, path, files: vec![file], finding });
        }
        self.ignored = rest;
    }
}

/// The nearest folder that is a log and has a word on a file.
fn place(file: &Seen, folders: &[BTreeMap<PathBuf, Finding>], root: &Path) -> Option<(PathBuf, usize, Use)> {
    let above = file.path.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    for folder in above {
        for (rule, known) in folders.iter().enumerate() {
            if !known.contains_key(folder) {
                continue;
            }
            let verdict = (FOLDER_LOGS[rule].part)(&relative(&file.path, folder));
            // What is a log of another form is no note of this one.
            let own = matches!(&file.look, Look::Log(finding) if finding.format != FOLDER_LOGS[rule].format);
            if verdict != Use::Other && !(own && verdict != Use::Part) {
                return Some((folder.to_path_buf(), rule, verdict));
            }
        }
    }
    None
}

/// Whether a file lies where scaffolds put what belongs to an evaluation. Only names below the source count.
fn is_beside(path: &Path, root: &Path) -> bool {
    let inside = path.strip_prefix(root).unwrap_or(path).ancestors().skip(1).filter_map(Path::file_name);
    inside
        .map(|name| name.to_string_lossy())
        .any(|name| name.starts_with("gen_") || name == "artifacts" || name == "best")
}
