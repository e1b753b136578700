//! Verification: does the store hold what its manifests say?
//!
//! Every file is hashed again, every count is checked against the conservation law, every table against the
//! footers of its shards, and every table that is passed on against the dataset that holds it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use finch_core::manifest::{FileEntry, Manifest, Table, digests};
use finch_core::{Digest, shard};
use rayon::prelude::*;

use super::{Dataset, Store};
use crate::error::Result;

/// What is wrong with a store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// The file or dataset, relative to the store.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// The result of a verification.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Report {
    /// Datasets that were checked.
    pub datasets: usize,
    /// Files that were hashed, or only measured.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong, by place.
    pub findings: Vec<Finding>,
}

/// Checks every dataset of a store; `quick` compares sizes and does not hash.
pub fn verify(store: &Store, quick: bool) -> Result<Report> {
    let mut report = Report::default();
    for fingerprint in store.fingerprints()? {
        report.datasets += 1;
        let place = format!("datasets/{fingerprint}/manifest.json");
        let dataset = match store.dataset(fingerprint) {
            Ok(Some(dataset)) => dataset,
            Ok(None) => {
                report.findings.push(Finding { place, what: "the manifest is missing".to_owned() });
                continue;
            }
            Err(error) => {
                report.findings.push(Finding { place, what: error.to_string() });
                continue;
            }
        };
        check_manifest(store, &dataset.manifest, &place, &mut report);
        let own = dataset.manifest.tables.values().filter(|table| table.from.is_none());
        let files: Vec<&FileEntry> =
            own.flat_map(|table| &table.files).chain(&dataset.manifest.artifacts).collect();
        report.files += files.len();
        report.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
        let found: Vec<Finding> =
            files.par_iter().flat_map_iter(|file| check_file(&dataset, file, quick)).collect();
        report.findings.extend(found);
        check_strays(&dataset, &mut report);
    }
    for build in store.builds()? {
        for stage in build.stages {
            if !store.folder(stage.fingerprint).is_dir() {
                let place = format!("builds/{}.json", build.build_id);
                let what =
                    format!("stage `{}`: its dataset {} is missing", stage.name, stage.fingerprint.short());
                report.findings.push(Finding { place, what });
            }
        }
    }
    report.findings.sort();
    report.findings.dedup();
    Ok(report)
}

fn check_manifest(store: &Store, manifest: &Manifest, place: &str, report: &mut Report) {
    let mut find = |what: String| report.findings.push(Finding { place: place.to_owned(), what });
    if !manifest.counts.balanced() {
        find(format!("records are not conserved: {:?}", manifest.counts));
    }
    let (rows, bytes) = digests(&manifest.tables, &manifest.artifacts);
    if (rows, bytes) != (manifest.rows, manifest.bytes) {
        find("the dataset's digests do not follow from its tables'".to_owned());
    }
    for (name, table) in &manifest.tables {
        if table.rows != table.files.iter().map(|file| file.rows).sum::<u64>() {
            find(format!("table `{name}`: its files' rows do not add up to {}", table.rows));
        }
        let Some(from) = table.from else { continue };
        let holder = store.dataset(from).ok().flatten();
        let same = |held: &Table| held.rows_digest == table.rows_digest && held.files == table.files;
        match holder.as_ref().map(|dataset| dataset.table(name)) {
            Some(Some(held)) if same(held) => {}
            Some(_) => find(format!("table `{name}` differs from the one in dataset {}", from.short())),
            None => find(format!("table `{name}` lies in dataset {}, which is missing", from.short())),
        }
    }
}

/// Compares one file with its entry.
fn check_file(dataset: &Dataset, entry: &FileEntry, quick: bool) -> Vec<Finding> {
    let path = dataset.folder().join(&entry.name);
    let place = format!("datasets/{}/{}", dataset.manifest.fingerprint, entry.name);
    let find = |what: String| vec![Finding { place: place.clone(), what }];
    let size = match std::fs::metadata(&path) {
        Ok(meta) => meta.len(),
        Err(error) => return find(error.to_string()),
    };
    if size != entry.bytes {
        return find(format!("it has {size} bytes, the manifest says {}", entry.bytes));
    }
    if quick {
        return vec![];
    }
    match hash(&path) {
        Err(error) => return find(error.to_string()),
        Ok(digest) if digest != entry.blake3 => {
            return find(format!(
                "its BLAKE3 is {}, the manifest says {}",
                digest.short(),
                entry.blake3.short()
            ));
        }
        Ok(_) => {}
    }
    if entry.name.ends_with(".parquet") {
        match shard::rows_in(&path) {
            Ok(rows) if rows == entry.rows => {}
            Ok(rows) => return find(format!("it has {rows} rows, the manifest says {}", entry.rows)),
            Err(error) => return find(error.to_string()),
        }
    }
    vec![]
}

fn hash(path: &Path) -> std::io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_bytes(*hasher.finalize().as_bytes())),
            length => hasher.update(&buffer[..length]),
        };
    }
}

/// Reports files in a dataset's folder that its manifest does not name.
fn check_strays(dataset: &Dataset, report: &mut Report) {
    let named: Vec<&str> = dataset
        .manifest
        .tables
        .values()
        .filter(|table| table.from.is_none())
        .flat_map(|table| &table.files)
        .chain(&dataset.manifest.artifacts)
        .map(|file| file.name.as_str())
        .chain(["manifest.json"])
        .collect();
    let folder = dataset.folder();
    let mut pending = vec![folder.clone()];
    while let Some(at) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&at) else { continue };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = path.strip_prefix(&folder).unwrap_or(&path).to_string_lossy().into_owned();
            if path.is_dir() {
                pending.push(path);
            } else if !named.contains(&name.as_str()) {
                let place = format!("datasets/{}/{name}", dataset.manifest.fingerprint);
                report.findings.push(Finding { place, what: "no manifest names this file".to_owned() });
            }
        }
    }
}
