//! Data tests: what a spec says must be true of a stage's tables, as queries that must yield no row.
//!
//! They run when their stage's dataset is there, before anything is made of it. A dataset that passed is not asked
//! again: the record of a build has the digest of the tests, and datasets do not change.

use std::fs::File;
use std::path::{Path, PathBuf};

use finch_core::{Digest, Kind};

use crate::error::{Error, Result};
use crate::spec::{DataTest, Pipeline, Stage, TestRule};
use crate::sql::format::Format;
use crate::sql::views::{self, Needed};
use crate::sql::{Engine, Session};
use crate::store::{BuildRecord, Dataset, Store};

/// Characters of an offending row that are shown.
const SHOWN: usize = 200;

/// A test that found rows.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The test.
    pub test: String,
    /// What it demands.
    pub rule: TestRule,
    /// Rows that should not be there.
    pub rows: u64,
    /// The first of them as JSON, cut.
    pub first: String,
    /// A Parquet file with all of them.
    pub saved: PathBuf,
}

impl Failed {
    /// In one line.
    pub fn words(&self) -> String {
        let Self { test, rule, rows, first, saved } = self;
        let found = match rule {
            TestRule::Query(_) => format!("{rows} rows that should not be there, such as {first}"),
            TestRule::Unique { columns, .. } => {
                format!("{rows} values of `{}` more than once, such as {first}", columns.join("`, `"))
            }
            TestRule::Rows { min, max, .. } => {
                let least = min.map(|min| format!("at least {min}"));
                let most = max.map(|max| format!("at most {max}"));
                let wanted: Vec<String> = least.into_iter().chain(most).collect();
                let there = first.trim_matches(|c: char| !c.is_ascii_digit());
                return format!("`{test}` found {there} rows where there should be {}", wanted.join(" and "));
            }
        };
        format!("`{test}` found {found}; all are in `{}`", saved.display())
    }
}

/// The tests of a stage.
pub fn of<'p>(pipeline: &'p Pipeline, stage: &str) -> Vec<&'p DataTest> {
    pipeline.tests.iter().filter(|test| test.stage.stage == stage).collect()
}

/// A digest of tests, by what they ask. `None` where there are none.
pub fn digest(tests: &[&DataTest]) -> Option<Digest> {
    let text = serde_json::to_string(tests).unwrap_or_default();
    (!tests.is_empty()).then(|| Kind::Fingerprint.fields().text("tests").text(&text).finish())
}

/// Whether a dataset passed tests of this digest in one of these builds.
pub fn passed(builds: &[BuildRecord], fingerprint: Digest, tests: Digest) -> bool {
    let stages = builds.iter().flat_map(|build| &build.stages);
    stages.into_iter().any(|stage| stage.fingerprint == fingerprint && stage.tests == Some(tests))
}

/// Runs tests over datasets, with their stages; the last one is the tests' own. What a test finds is saved in
/// the store, in place of what it found before.
pub fn run(
    tests: &[&DataTest],
    datasets: &[(&Stage, &Dataset)],
    engine: &Engine,
    store: &Store,
) -> Result<Vec<Failed>> {
    let folder = store.root().join("failed");
    let mut failed = Vec::new();
    for test in tests {
        let Some((stage, _)) = datasets.last() else { continue };
        let query = test.rule.query(&stage.name, stage.config.own_table());
        let needed = Needed::by(&query);
        let session = engine.session(needed.width());
        for (stage, dataset) in datasets {
            views::bind(&session, Some(&stage.name), dataset, &needed)?;
        }
        let saved = folder.join(format!("{}.parquet", test.name));
        match save(&session, &query, &saved, store)? {
            None => remove(&saved)?,
            Some((rows, first)) => {
                failed.push(Failed { test: test.name.clone(), rule: test.rule.clone(), rows, first, saved });
            }
        }
    }
    Ok(failed)
}

/// Saves the rows of a query, if there are any; their number, and the first.
fn save(session: &Session<'_>, query: &str, saved: &Path, store: &Store) -> Result<Option<(u64, String)>> {
    let (mut rows, mut first) = (0, None);
    session.each(query, &[], |batch| {
        rows += batch.num_rows() as u64;
        if first.is_none() && batch.num_rows() > 0 {
            first = Some(batch.slice(0, 1));
        }
        Ok(())
    })?;
    let Some(first) = first else { return Ok(None) };
    let scratch = store.scratch()?;
    let written = scratch.path().join("rows.parquet");
    let mut file = File::create(&written).map_err(Error::io("create", &written))?;
    Format::Parquet.write(session, query, &mut file)?;
    let folder = saved.parent().unwrap_or(saved);
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    std::fs::rename(&written, saved).map_err(Error::io("write", saved))?;
    let mut text = Vec::new();
    crate::sql::format::json_line(&first, &mut text)?;
    let mut text: String =
        String::from_utf8_lossy(&text).trim().escape_debug().to_string().replace("\\\"", "\"");
    if let Some((end, _)) = text.char_indices().nth(SHOWN) {
        text.truncate(end);
        text.push('…');
    }
    Ok(Some((rows, text)))
}

fn remove(saved: &Path) -> Result<()> {
    match std::fs::remove_file(saved) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", saved)(error)),
        _ => Ok(()),
    }
}
