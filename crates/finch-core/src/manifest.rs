//! The manifest of a dataset: what it is, what it was made from, and the digest of every file.
//!
//! It holds no clock, no host and no path outside the dataset, so two executions of the same work write the same. Those go to the build record.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Kind};

/// The version of this format; readers refuse another.
pub const VERSION: u32 = 1;

/// A dataset's manifest, stored as `manifest.json` beside its tables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format's version, [`VERSION`].
    pub version: u32,
    /// Digest of the stage's code version, parameters and input digests.
    pub fingerprint: Digest,
    /// The stage kind, such as `dedup`.
    pub kind: String,
    /// The stage kind's code version.
    pub code_version: u32,
    /// All parameters, defaults included.
    pub parameters: Value,
    /// What the stage read, by role: the `rows` digest of a dataset, or the digest of files from outside.
    pub inputs: BTreeMap<String, Digest>,
    /// The name of the row table.
    pub row_table: String,
    /// The dataset's tables, its own and those it passes on.
    pub tables: BTreeMap<String, Table>,
    /// Files that are not tables, such as a tokenizer.
    pub artifacts: Vec<FileEntry>,
    /// Digest of what the tables and artifacts say; survives re-encoding. A training has none: it is bit-equal
    /// only on one machine, so what its tables say identifies nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Digest>,
    /// The digest of a training's weights, which stands for its content instead: the BLAKE3 of the file, or one digest of
    /// the files where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Digest>,
    /// Digest of the files' bytes.
    pub bytes: Digest,
    /// Records in and out.
    pub counts: Counts,
    /// The seed, where the stage chose by hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Versions of the program, the compiler and the crates that shape the output.
    pub toolchain: BTreeMap<String, String>,
}

/// One table of a dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The columns of the unique key; rows are sorted by it, nulls first.
    pub key: Vec<String>,
    /// Number of rows.
    pub rows: u64,
    /// Digest of the rows (see [`crate::rows`]).
    pub rows_digest: Digest,
    /// Digest of the files.
    pub bytes_digest: Digest,
    /// The columns.
    pub schema: Vec<Column>,
    /// The shards, in row order.
    pub files: Vec<FileEntry>,
    /// The dataset that holds the files, when the table was passed on and not written here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Digest>,
}

/// A column's name, type and nullability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The Arrow type.
    #[serde(rename = "type")]
    pub data_type: String,
    /// Whether nulls may occur.
    pub nullable: bool,
}

/// One file of a dataset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// The path inside the dataset, `/`-joined.
    pub name: String,
    /// Rows in the file; 0 for artifacts.
    pub rows: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// Plain BLAKE3 of the file, as `b3sum` prints it.
    pub blake3: Digest,
    /// SHA-256 of the file, as `sha256sum` prints it.
    pub sha256: Digest,
}

/// Records in and out of a stage, and why some were kept out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Records read.
    pub input: u64,
    /// Records that are in the output.
    pub used: u64,
    /// Copies of a record that is in the output.
    pub merged: u64,
    /// Records kept out on purpose; each is a row of the `removed` table.
    pub removed: u64,
    /// Records that could not be read; each is a row of the `quarantine` table.
    pub quarantined: u64,
    /// Whether `input = used + merged + removed + quarantined` is claimed. False for `sql`, `tokenizer` and `train`.
    pub conserved: bool,
    /// Removed and quarantined records by reason, and other figures worth keeping.
    pub reasons: BTreeMap<String, u64>,
}

impl Counts {
    /// Whether the conservation law holds, or is not claimed.
    pub fn balanced(&self) -> bool {
        !self.conserved || self.input == self.used + self.merged + self.removed + self.quarantined
    }
}

impl Manifest {
    /// The files that lie in the dataset itself: those of tables that it does not pass on, then artifacts.
    pub fn own_files(&self) -> impl Iterator<Item = &FileEntry> {
        let own = self.tables.values().filter(|table| table.from.is_none());
        own.flat_map(|table| &table.files).chain(&self.artifacts)
    }

    /// What stages that read the dataset know it by: its `rows`, or a training's `weights`. Neither is there only
    /// in a manifest that finch did not write; the fingerprint then tells it from all others.
    pub fn content(&self) -> Digest {
        self.rows.or(self.weights).unwrap_or(self.fingerprint)
    }
}

/// The digests of a dataset, from its tables and artifacts: (`rows`, `bytes`).
///
/// Tables that are passed on count in `rows`, because later stages read them through this dataset, and not in
/// `bytes`, because their files are another dataset's.
pub fn digests(tables: &BTreeMap<String, Table>, artifacts: &[FileEntry]) -> (Digest, Digest) {
    let mut rows = Kind::Dataset.fields().text("rows");
    let mut bytes = Kind::Dataset.fields().text("bytes");
    for (name, table) in tables {
        rows = rows.text(name).digest(table.rows_digest);
        if table.from.is_none() {
            bytes = bytes.text(name).digest(table.bytes_digest);
        }
    }
    for file in artifacts {
        rows = rows.text(&file.name).digest(file.blake3);
        bytes = bytes.text(&file.name).digest(file.blake3);
    }
    (rows.finish(), bytes.finish())
}

/// An Arrow schema as the manifest writes it.
pub fn describe(schema: &Schema) -> Vec<Column> {
    schema
        .fields()
        .iter()
        .map(|field| Column {
            name: field.name().clone(),
            data_type: type_text(field.data_type()),
            nullable: field.is_nullable(),
        })
        .collect()
}

fn type_text(data_type: &DataType) -> String {
    match data_type {
        DataType::Boolean => "bool".to_owned(),
        DataType::Utf8 => "utf8".to_owned(),
        DataType::Timestamp(_, _) => "timestamp[us, UTC]".to_owned(),
        DataType::List(item) => format!("list<{}>", type_text(item.data_type())),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| format!("{}: {}", field.name(), type_text(field.data_type())))
                .collect();
            format!("struct<{}>", fields.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// JSON with sorted keys and no spaces: equal values give equal text.
pub fn canonical_json(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            Value::Object(fields) => {
                let ordered: BTreeMap<&String, Value> =
                    fields.iter().map(|(name, value)| (name, sorted(value))).collect();
                Value::Object(ordered.into_iter().map(|(k, v)| (k.clone(), v)).collect())
            }
            scalar => scalar.clone(),
        }
    }
    // serde_json's map keeps sorted order unless a dependency asks for insertion order; sorting first makes
    // both give the same text.
    sorted(value).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_json_does_not_depend_on_key_order() {
        let a: Value = serde_json::from_str(r#"{"b": [1, {"y": null, "x": 2}], "a": 0.5}"#).expect("json");
        let b: Value = serde_json::from_str(r#"{"a": 0.5, "b": [1, {"x": 2, "y": null}]}"#).expect("json");
        assert_eq!(canonical_json(&a), canonical_json(&b));
        assert_eq!(canonical_json(&a), r#"{"a":0.5,"b":[1,{"x":2,"y":null}]}"#);
    }

    #[test]
    fn conservation_is_arithmetic() {
        let mut counts = Counts { input: 10, used: 6, merged: 3, conserved: true, ..Counts::default() };
        assert!(!counts.balanced());
        counts.removed = 1;
        assert!(counts.balanced());
    }
}
