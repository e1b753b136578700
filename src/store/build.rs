//! Build records: what was decided and done, when and where.
//!
//! Everything that manifests must not hold goes here: clocks, host names, paths, names of stages. A record is
//! written at the end of a build, also of one that failed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use finch_core::{Digest, Kind};
use serde::{Deserialize, Serialize};

use super::{Store, write_synced};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::progress::Meter;
use crate::remote::{Fetch, Wanted};

/// The version of this format.
pub const VERSION: u32 = 1;

/// One execution of a spec.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BuildRecord {
    /// The format's version, [`VERSION`].
    pub version: u32,
    /// Start time and a digest; sorts by time.
    pub build_id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// Wall time.
    pub seconds: f64,
    /// The host's name.
    pub host: String,
    /// Threads that were used.
    pub threads: usize,
    /// The stage that was asked for with `--only`; a build of the whole spec has none.
    pub only: Option<String>,
    /// `ok`, `failed` or `interrupted`.
    pub status: String,
    /// Why it failed.
    pub error: Option<String>,
    /// The stages in build order, as far as the build came.
    pub stages: Vec<StageRecord>,
}

/// What a build did about a stage.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct StageRecord {
    /// The stage's name in the spec.
    pub name: String,
    /// Its kind.
    pub kind: String,
    /// The stages that it reads, the main one first.
    pub inputs: Vec<String>,
    /// Its dataset.
    #[cfg_attr(test, schemars(with = "schemas::Hex"))]
    pub fingerprint: Digest,
    /// Plain BLAKE3 of the dataset's manifest.
    #[cfg_attr(test, schemars(with = "schemas::Hex"))]
    pub manifest: Digest,
    /// Reused, cut off or computed.
    pub decision: Decision,
    /// Why.
    pub why: String,
    /// Rows of the row table.
    pub rows: u64,
    /// Wall time.
    pub seconds: f64,
    /// The parts that the fingerprint was made of, for telling what changed.
    pub parts: BTreeMap<String, String>,
    /// A digest of the data tests that the dataset passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<schemas::Hex>"))]
    pub tests: Option<Digest>,
    /// How a training went; only where one ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    /// What an ingest stage read and what it knew already; only where one ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reading: Option<ReadingRecord>,
}

/// How much of the logs had to be read. It depends on what the store remembers, so no manifest may hold it.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadingRecord {
    /// Files that were read.
    pub files_read: u64,
    /// Files that had been read before, by an earlier build or under another name.
    pub files_known: u64,
}

/// What a training's manifest must not hold: clocks, and what depends on whether it was resumed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrainingRecord {
    /// Wall time of the trainer's last process.
    pub seconds: f64,
    /// Tokens that went through the model in it, evaluation included.
    pub tokens_seen: u64,
    /// Optimizer steps in all.
    pub steps: u64,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// The processor's or the card's name.
    pub device_name: String,
    /// The step after which it was resumed, when it was.
    pub resumed_from: Option<u64>,
    /// Peak resident memory of the trainer's last process, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// The evaluation with the lowest held-out loss.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestEvaluation>,
}

/// Where a training's held-out loss was lowest.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BestEvaluation {
    /// Optimizer steps that were done.
    pub step: u64,
    /// The loss, in nats a token.
    pub loss: f64,
}

/// Whether a stage had to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// Its dataset was in the store.
    Reuse,
    /// What it reads was computed again and came out as it was, so its dataset still holds.
    CutOff,
    /// It was computed.
    Run,
}

impl BuildRecord {
    /// A record of a build that starts now.
    pub fn start(pipeline: &str, threads: usize) -> Self {
        let now = chrono::Utc::now();
        let host = super::host();
        let digest = Kind::Build
            .fields()
            .text(&host)
            .int(u64::from(std::process::id()))
            .text(&now.to_rfc3339())
            .finish();
        Self {
            version: VERSION,
            build_id: format!("{}-{}", now.format("%Y%m%dT%H%M%S%3fZ"), &digest.short()[..6]),
            pipeline: pipeline.to_owned(),
            started_at: now.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            seconds: 0.0,
            host,
            threads,
            only: None,
            status: "failed".to_owned(),
            error: None,
            stages: Vec::new(),
        }
    }

    /// A stage by name.
    pub fn stage(&self, name: &str) -> Option<&StageRecord> {
        self.stages.iter().find(|stage| stage.name == name)
    }
}

impl Store {
    /// Adds a build's record.
    pub fn record(&self, build: &BuildRecord) -> Result<()> {
        let folder = self.root.join("builds");
        let path = folder.join(format!("{}.json", build.build_id));
        let aside = folder.join(format!(".{}.tmp", build.build_id));
        let text = serde_json::to_vec_pretty(build)
            .map_err(|source| finch_core::Error::Manifest { path: path.clone(), source })?;
        if let Some(mirror) = &self.mirror {
            // One that was interrupted or failed is recorded too, if that does not take long.
            let bucket = if build.status == "ok" { mirror.bucket.clone() } else { mirror.bucket.released() };
            bucket.create(&format!("builds/{}.json", build.build_id), &text)?;
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        write_synced(&aside, &text)?;
        fs::rename(&aside, &path).map_err(Error::io("write", &path))?;
        finch_core::shard::sync_folder(&folder)?;
        Ok(())
    }

    /// All builds, oldest first. A record that is not readable is an error, never skipped.
    pub fn builds(&self) -> Result<Vec<BuildRecord>> {
        let files = self.build_files()?;
        self.bring_builds(files.iter().map(PathBuf::as_path))?;
        files.iter().map(|path| read(path).map_err(|error| self.named(error, path))).collect()
    }

    /// The files of all builds, oldest first. Of a store in a bucket, where they are once they were read.
    pub(super) fn build_files(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("builds");
        let is_record = |name: &str| name.ends_with(".json") && !name.starts_with('.');
        if let Some(mirror) = &self.mirror {
            let objects = mirror.bucket.list("builds")?;
            for object in &objects {
                let here = self.root.join(&object.key);
                // Records are never rewritten by finch; one of another size was mended or damaged by somebody.
                if fs::metadata(&here).is_ok_and(|meta| meta.len() != object.bytes) {
                    fs::remove_file(&here).map_err(Error::io("remove", here))?;
                }
            }
            let names = objects.iter().filter_map(|object| object.key.strip_prefix("builds/"));
            return Ok(names
                .filter(|name| is_record(name) && !name.contains('/'))
                .map(|name| folder.join(name))
                .collect());
        }
        let mut files = Vec::new();
        match fs::read_dir(&folder) {
            Ok(entries) => {
                for entry in entries {
                    let path = entry.map_err(Error::io("list", &folder))?.path();
                    let name =
                        path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                    if is_record(&name) {
                        files.push(path);
                    }
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("list", folder)(error)),
        }
        files.sort();
        Ok(files)
    }

    /// Reads the record of a build; from a bucket, unless it was read before.
    pub(super) fn read_build(&self, path: &Path) -> Result<BuildRecord> {
        self.bring_builds([path])?;
        read(path).map_err(|error| self.named(error, path))
    }

    /// An error about a fetched record, with the place that it came from.
    fn named(&self, error: Error, path: &Path) -> Error {
        match (error, &self.mirror, path.file_name().and_then(|name| name.to_str())) {
            (Error::Core(finch_core::Error::Manifest { source, .. }), Some(mirror), Some(name)) => {
                let path = PathBuf::from(mirror.bucket.place(&format!("builds/{name}")));
                finch_core::Error::Manifest { path, source }.into()
            }
            (error, ..) => error,
        }
    }

    /// Forgets the records of builds that were fetched, so that they are fetched again.
    pub(super) fn forget_builds(&self) -> Result<()> {
        let folder = self.root.join("builds");
        match self.mirror.as_ref().map(|_| fs::remove_dir_all(&folder)) {
            Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", folder)(error))
            }
            _ => Ok(()),
        }
    }

    /// Fetches records of builds that were not read before, all at once.
    fn bring_builds<'a>(&self, paths: impl IntoIterator<Item = &'a Path>) -> Result<()> {
        let Some(mirror) = &self.mirror else { return Ok(()) };
        let missing = paths.into_iter().filter(|path| !path.exists());
        let fetch = |path: &Path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            Fetch { key: format!("builds/{name}"), to: path.to_path_buf(), wanted: Wanted::Anything }
        };
        let fetches: Vec<Fetch> = missing.map(fetch).collect();
        mirror.bucket.fetch(&fetches, &Meter::default(), &|_, _| {}).map(|_| ())
    }

    /// The newest builds, finished or not, the newest first; they only tell what changed since, so a record that
    /// cannot be read is passed over.
    pub fn recent_builds(&self) -> Vec<BuildRecord> {
        /// A stage that none of so many builds came to is as good as new.
        const RECENT: usize = 20;
        let files = self.build_files().unwrap_or_default();
        let recent: Vec<&Path> = files.iter().rev().take(RECENT).map(PathBuf::as_path).collect();
        let _ = self.bring_builds(recent.iter().copied());
        recent.into_iter().filter_map(|path| read(path).ok()).collect()
    }

    /// A build by name: its id, a beginning of it that no other build shares, `latest`, or `previous`, the finished
    /// build before that one. The last two are of a pipeline, or of any.
    pub fn build(&self, name: &str, pipeline: Option<&str>) -> Result<BuildRecord> {
        match name {
            "latest" => return self.latest_build(pipeline),
            "previous" => return self.previous_build(pipeline),
            _ => {}
        }
        let files = self.build_files()?;
        let id = |path: &PathBuf| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let ids: Vec<String> = files.iter().filter_map(id).collect();
        let found: Vec<usize> = (0..ids.len())
            .filter(|&at| ids[at] == name || (!name.is_empty() && ids[at].starts_with(name)))
            .collect();
        let exact = found.iter().copied().find(|&at| ids[at] == name);
        match (exact, found.as_slice()) {
            (Some(at), _) | (None, &[at]) => self.read_build(&files[at]),
            (None, []) => Err(Error::Usage(format!(
                "the store `{}` has no build `{}`; `finch builds` lists them{}",
                self.place(),
                name.escape_debug(),
                ids.last().map_or(String::new(), |newest| format!(", the newest is `{newest}`"))
            ))),
            (None, several) => Err(Error::Usage(format!(
                "{} builds begin with `{name}`, among them `{}` and `{}`",
                several.len(),
                ids[several[0]],
                ids[several[several.len() - 1]]
            ))),
        }
    }

    /// The finished build before [`Store::latest_build`]; of whole specs, where that one is of a whole spec.
    fn previous_build(&self, pipeline: Option<&str>) -> Result<BuildRecord> {
        let latest = self.latest_build(pipeline)?;
        for path in self.build_files()?.iter().rev() {
            let build = self.read_build(path)?;
            if build.status == "ok"
                && build.build_id < latest.build_id
                && (build.only.is_none() || latest.only.is_some())
                && pipeline.is_none_or(|name| build.pipeline == name)
            {
                return Ok(build);
            }
        }
        Err(Error::Store {
            reason: format!(
                "the store `{}` holds one finished build, `{}`, and none before it",
                self.place(),
                latest.build_id
            ),
            code: Code::NothingBuilt,
            hint: Some("`finch builds` lists all, also those that did not finish".to_owned()),
        })
    }

    /// The newest finished build of a pipeline, or of any. One of a whole spec comes before one of `--only`.
    pub fn latest_build(&self, pipeline: Option<&str>) -> Result<BuildRecord> {
        let mut partial = None;
        for path in self.build_files()?.iter().rev() {
            let build = self.read_build(path)?;
            if build.status != "ok" || pipeline.is_some_and(|name| build.pipeline != name) {
                continue;
            }
            if build.only.is_none() {
                return Ok(build);
            }
            partial.get_or_insert(build);
        }
        partial.ok_or_else(|| Error::Store {
            reason: match pipeline {
                Some(name) => {
                    format!("the store `{}` holds no finished build of `{name}`", self.place())
                }
                None => format!("the store `{}` holds no finished build", self.place()),
            },
            code: Code::NothingBuilt,
            hint: Some("`finch run SPEC` makes one".to_owned()),
        })
    }
}

/// Reads a build's record from its file.
fn read(path: &Path) -> Result<BuildRecord> {
    let text = fs::read(path).map_err(Error::io("read", path))?;
    let build: BuildRecord = serde_json::from_slice(&text)
        .map_err(|source| finch_core::Error::Manifest { path: path.to_path_buf(), source })?;
    if build.version != VERSION {
        return Err(Error::Store {
            reason: format!(
                "build record `{}` is of version {}, not {VERSION}",
                path.display(),
                build.version
            ),
            code: Code::BadManifest,
            hint: None,
        });
    }
    Ok(build)
}

#[cfg(test)]
mod schemas {
    use std::path::Path;

    use schemars::generate::SchemaSettings;
    use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

    use super::BuildRecord;

    /// How a digest is written.
    pub(super) struct Hex;

    impl JsonSchema for Hex {
        fn schema_name() -> std::borrow::Cow<'static, str> {
            "Digest".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({ "type": "string", "pattern": "^[0-9a-f]{64}$" })
        }
    }

    #[test]
    fn the_schema_of_build_records_is_current() {
        let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
        let schema = generator.into_root_schema_for::<BuildRecord>();
        let text =
            format!("{:#}\n", schema.as_value()).replace("[`", "`").replace("`]", "`").replace("\\n", " ");
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/build.schema.json");
        if std::env::var_os("FINCH_REWRITE").is_some_and(|asked| !asked.is_empty()) {
            std::fs::write(&file, text).expect("write");
            return;
        }
        let written = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(
            written == text,
            "{} is not current: run this test with FINCH_REWRITE=1\n{text}",
            file.display()
        );
    }
}
