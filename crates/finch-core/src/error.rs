//! The one error type of this crate: what happened, to which file or table, and why.
//!
//! Rendering (codes, hints, colours) belongs to the program at the edge, not here.

use std::path::{Path, PathBuf};

/// What can go wrong when datasets are read, written or hashed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// The operation in words, such as `read` or `create`.
        action: &'static str,
        /// The file or folder it failed on.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A Parquet shard could not be written or read.
    #[error("Parquet shard `{path}`: {source}")]
    Parquet {
        /// The shard.
        path: PathBuf,
        /// What the Parquet library said.
        source: parquet::errors::ParquetError,
    },
    /// Arrow refused an operation on a record batch.
    #[error("table `{table}`: {source}")]
    Arrow {
        /// The table that was being written.
        table: String,
        /// What Arrow said.
        source: arrow::error::ArrowError,
    },
    /// Rows came out of key order, or a key came twice.
    #[error("table `{table}`: row {row} {what} by its key ({key})")]
    Key {
        /// The table that was being written.
        table: String,
        /// The row's ordinal in the table.
        row: u64,
        /// `is out of order` or `is a duplicate`.
        what: &'static str,
        /// The names of the key's columns.
        key: String,
    },
    /// A column has a type that has no canonical encoding.
    #[error("column `{column}` has the type {data_type}, which datasets cannot hold")]
    ColumnType {
        /// The column.
        column: String,
        /// Its Arrow type.
        data_type: arrow::datatypes::DataType,
    },
    /// A manifest is not readable as one.
    #[error("manifest `{path}` is corrupt: {source}")]
    Manifest {
        /// Where the manifest lies.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// A digest is not 64 lower-case hexadecimal digits.
    #[error("`{0}` is not a digest: 64 lower-case hexadecimal digits are expected")]
    Digest(String),
    /// A tokenizer could not be loaded, trained or applied.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
}

impl Error {
    /// An I/O error with its place; shaped for `map_err(Error::io("read", path))`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}
