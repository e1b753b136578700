//! Where a store or a source lies: in a folder, or behind an address.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Address;
use crate::error::{Error, Result};

/// A folder or file of this machine, or an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path.
    Local(PathBuf),
    /// An address.
    Remote(Address),
}

impl Place {
    /// Reads a place; a path is relative to `base`. What looks like an address and is none is an error in words.
    pub fn read(text: &str, base: &Path) -> Result<Self, String> {
        match Address::parse(text) {
            None => Ok(Self::Local(base.join(text))),
            Some(address) => address.map(Self::Remote),
        }
    }

    /// A store as it was typed: a path of any bytes, relative to where it was typed, or the address of a bucket.
    pub fn store(typed: &OsStr) -> Result<Self> {
        let Some(text) = typed.to_str() else { return Ok(Self::Local(PathBuf::from(typed))) };
        let place = Self::read(text, Path::new("")).map_err(Error::Usage)?;
        place.for_store().map_err(Error::Usage)
    }

    /// The same place, when a store can be there.
    pub fn for_store(self) -> Result<Self, String> {
        match &self {
            Self::Remote(address) if !address.scheme().is_bucket() => {
                Err("a store needs a folder or a bucket; a web server can hold sources alone".to_owned())
            }
            _ => Ok(self),
        }
    }

    /// Where it lies on this machine: the path, or the folder that a remote source was brought to.
    pub fn here(&self) -> Option<PathBuf> {
        match self {
            Self::Local(path) => Some(path.clone()),
            Self::Remote(address) => Some(super::staging::files(address, &super::cache().ok()?)),
        }
    }

    /// The path, when it is one.
    pub fn local(&self) -> Option<&Path> {
        match self {
            Self::Local(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(path) => path.display().fmt(f),
            Self::Remote(address) => address.fmt(f),
        }
    }
}
