//! Verification: does the store hold what its manifests say?
//!
//! Every file is hashed again, every count is checked against the conservation law, every table against the
//! footers of its shards, and every table that is passed on against the dataset that holds it.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;

use finch_core::manifest::{FileEntry, Manifest, Table, digests};
use finch_core::shard::{HashingWriter, TableCheck};
use finch_core::training::{digest_of_weights, files};
use finch_core::{Digest, shard};
use rayon::prelude::*;

use super::{BuildRecord, Dataset, Sizes, StageRecord, Store};
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
    /// Columns whose ids were looked for in the tables that they point to, by `references::check`.
    pub references: usize,
    /// What is wrong, by place.
    pub findings: Vec<Finding>,
}

/// Checks every dataset of a store; `quick` compares sizes and does not hash.
pub fn verify(store: &Store, quick: bool) -> Result<Report> {
    let mut report = Report::default();
    // What the bucket holds is to be verified, and not what was fetched of it.
    store.forget_builds()?;
    for fingerprint in store.fingerprints()? {
        report.datasets += 1;
        let place = format!("datasets/{fingerprint}/manifest.json");
        let dataset = match store.dataset(fingerprint) {
            Ok(Some(dataset)) => dataset,
            // In a bucket these are files of a build that has not ended, or was killed; `gc` removes them in time.
            Ok(None) if store.is_far() => {
                report.datasets -= 1;
                continue;
            }
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
        let files: Vec<&FileEntry> = dataset.manifest.own_files().collect();
        let sizes = store.sizes(&dataset.manifest)?;
        report.files += files.len();
        report.bytes += files.iter().map(|file| file.bytes).sum::<u64>();
        let found: Vec<Option<Finding>> =
            files.par_iter().map(|file| check_file(&dataset, file, &sizes, quick)).collect::<Result<_>>()?;
        let found: Vec<Finding> = found.into_iter().flatten().collect();
        let whole = found.is_empty();
        report.findings.extend(found);
        // Rows are read only from files that are what they should be: a damaged one is named already.
        if whole && !quick {
            let own: Vec<_> =
                dataset.manifest.tables.iter().filter(|(_, table)| table.from.is_none()).collect();
            let found: Vec<Finding> = own
                .par_iter()
                .filter_map(|(name, table)| {
                    let place = format!("datasets/{fingerprint}/{name}");
                    Some(Finding { place, what: check_table(&dataset, name, table)? })
                })
                .collect();
            report.findings.extend(found);
        }
        check_strays(store, &dataset, &mut report)?;
    }
    for path in store.build_files()? {
        check_build(store, &path, &mut report);
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
    // Ingest counts log records, packs hold several examples: only here is a record a row.
    if ["dedup", "label", "filter", "split", "render"].contains(&manifest.kind.as_str()) {
        for (table, counted) in
            [(manifest.row_table.as_str(), manifest.counts.used), ("removed", manifest.counts.removed)]
        {
            let rows = manifest.tables.get(table).map_or(0, |table| table.rows);
            if rows != counted {
                find(format!("its counts say {counted} rows of `{table}`, which has {rows}"));
            }
        }
    }
    let (rows, bytes) = digests(&manifest.tables, &manifest.artifacts);
    if manifest.rows.is_some_and(|said| said != rows) || bytes != manifest.bytes {
        find("the dataset's digests do not follow from its tables'".to_owned());
    }
    let model = manifest.artifacts.iter().filter_map(|file| {
        let (folder, name) = file.name.split_once('/')?;
        (folder == files::MODEL).then_some((name, file.blake3))
    });
    if manifest.weights != digest_of_weights(model) || manifest.rows.is_some() == manifest.weights.is_some() {
        find("it needs either `rows` or the `weights` of a model that it has".to_owned());
    }
    for (name, table) in &manifest.tables {
        if table.rows != table.files.iter().map(|file| file.rows).sum::<u64>() {
            find(format!("table `{name}`: its files' rows do not add up to {}", table.rows));
        }
        let Some(from) = table.from else { continue };
        let holder = store.held(from).ok().flatten();
        let same = |held: &Table| held.rows_digest == table.rows_digest && held.files == table.files;
        match holder.as_ref().map(|dataset| dataset.table(name)) {
            Some(Some(held)) if same(held) => {}
            Some(_) => find(format!("table `{name}` differs from the one in dataset {}", from.short())),
            None => find(format!("table `{name}` lies in dataset {}, which is missing", from.short())),
        }
    }
}

/// Checks that a build's datasets are there, with the manifests that it recorded.
fn check_build(store: &Store, path: &Path, report: &mut Report) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut find = |what: String| report.findings.push(Finding { place: format!("builds/{name}"), what });
    let build = match store.read_build(path) {
        Ok(build) => build,
        Err(error) => return find(error.to_string()),
    };
    for stage in &build.stages {
        match store.manifest_digest(stage.fingerprint) {
            Err(_) => {
                find(format!("stage `{}`: its dataset {} is missing", stage.name, stage.fingerprint.short()));
            }
            Ok(digest) if digest != stage.manifest => {
                let short = stage.fingerprint.short();
                find(format!(
                    "stage `{}`: the manifest of its dataset {short} was changed since",
                    stage.name
                ));
            }
            Ok(_) => check_inputs(store, &build, stage, &mut find),
        }
    }
}

/// Checks that a stage's dataset was made from what the build names as the stage's inputs.
fn check_inputs(store: &Store, build: &BuildRecord, stage: &StageRecord, find: &mut impl FnMut(String)) {
    let Ok(Some(dataset)) = store.held(stage.fingerprint) else { return };
    for (n, input) in stage.inputs.iter().enumerate() {
        let role = if stage.kind == "sql" { format!("input.{input}") } else { format!("input.{n}") };
        let Some(parent) = build.stage(input) else {
            find(format!("stage `{}` reads `{input}`, which the build does not have", stage.name));
            continue;
        };
        // A missing or corrupt one is named with its own stage.
        let Ok(Some(parent)) = store.held(parent.fingerprint) else { continue };
        if dataset.manifest.inputs.get(&role) != Some(&parent.manifest.content()) {
            find(format!("stage `{}`: its dataset was made from other rows of `{input}`", stage.name));
        }
    }
}

/// What is wrong with the files of a dataset.
pub fn check_files(dataset: &Dataset) -> Result<Vec<Finding>> {
    let files: Vec<&FileEntry> = dataset.manifest.own_files().collect();
    let sizes = dataset.store.sizes(&dataset.manifest)?;
    let found =
        files.par_iter().map(|file| check_file(dataset, file, &sizes, false)).collect::<Result<Vec<_>>>()?;
    Ok(found.into_iter().flatten().collect())
}

/// Compares one file with its entry; one in a bucket is fetched for it, also when it was fetched before.
fn check_file(dataset: &Dataset, entry: &FileEntry, sizes: &Sizes, quick: bool) -> Result<Option<Finding>> {
    let place = format!("datasets/{}/{}", dataset.manifest.fingerprint, entry.name);
    let find = |what: String| Ok(Some(Finding { place: place.clone(), what }));
    let size = match sizes(&entry.name) {
        Ok(size) => size,
        Err(error) => return find(error.to_string()),
    };
    if size != entry.bytes {
        return find(format!("it has {size} bytes, the manifest says {}", entry.bytes));
    }
    if quick {
        return Ok(None);
    }
    let hashed = match dataset.store.is_far() {
        true => Ok(dataset.store.hash_far(&dataset.manifest, entry)?),
        false => hash(&dataset.store.folder(dataset.manifest.fingerprint).join(&entry.name)),
    };
    let (blake3, sha256) = match hashed {
        Ok(digests) => digests,
        Err(error) => return find(error.to_string()),
    };
    if blake3 != entry.blake3 {
        return find(format!("its BLAKE3 is {}, the manifest says {}", blake3.short(), entry.blake3.short()));
    }
    if sha256 != entry.sha256 {
        return find(format!(
            "its SHA-256 is {}, the manifest says {}",
            sha256.short(),
            entry.sha256.short()
        ));
    }
    Ok(None)
}

/// The BLAKE3 and SHA-256 of a file, in one pass.
fn hash(path: &Path) -> std::io::Result<(Digest, Digest)> {
    let mut hashing = HashingWriter::new(std::io::sink());
    std::io::copy(&mut File::open(path)?, &mut hashing)?;
    Ok(hashing.digests())
}

/// Reads a table's shards and compares rows, order, schema and digests with the manifest.
fn check_table(dataset: &Dataset, name: &str, table: &Table) -> Option<String> {
    let schema = dataset.schema(name).ok()?;
    if finch_core::manifest::describe(&schema) != table.schema {
        return Some("the columns are not those of the manifest".to_owned());
    }
    let mut check = match TableCheck::new(name, &schema, &table.key) {
        Ok(check) => check,
        Err(error) => return Some(error.to_string()),
    };
    let files = match dataset.files(name) {
        Ok(files) => files,
        Err(error) => return Some(error.to_string()),
    };
    for path in files {
        let batches = match shard::read(&path) {
            Ok(batches) => batches,
            Err(error) => return Some(error.to_string()),
        };
        for batch in batches {
            let added = batch
                .map_err(|error| error.to_string())
                .and_then(|batch| check.add(&batch).map_err(|error| error.to_string()));
            if let Err(error) = added {
                return Some(error);
            }
        }
    }
    let (rows, digest) = check.finish();
    if rows != table.rows {
        return Some(format!("it has {rows} rows, the manifest says {}", table.rows));
    }
    let bytes = shard::bytes_digest(&table.files);
    (digest != table.rows_digest || bytes != table.bytes_digest)
        .then(|| "its digests are not those of the manifest".to_owned())
}

/// Reports files of a dataset that its manifest does not name.
fn check_strays(store: &Store, dataset: &Dataset, report: &mut Report) -> Result<()> {
    let named: BTreeSet<&str> =
        dataset.manifest.own_files().map(|file| file.name.as_str()).chain(["manifest.json"]).collect();
    for name in store.names(&dataset.manifest)? {
        if !named.contains(name.as_str()) {
            let place = format!("datasets/{}/{name}", dataset.manifest.fingerprint);
            report.findings.push(Finding { place, what: "no manifest names this file".to_owned() });
        }
    }
    Ok(())
}
