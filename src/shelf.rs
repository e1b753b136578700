//! Texts at hand: a file that holds texts whole, to be read one by one in any order.
//!
//! Tables hold texts compressed and in one order. A stage that needs pairs of them copies those once, in one pass;
//! memory holds where each is.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Texts by their number, in the order in which they came.
pub struct Shelf {
    file: BufWriter<File>,
    path: PathBuf,
    /// Where each ends; it begins where the one before ends.
    ends: Vec<u64>,
}

impl Shelf {
    /// An empty one, as a file in a folder that is nobody else's.
    pub fn create(folder: &Path) -> Result<Self> {
        let path = folder.join("shelf");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = BufWriter::with_capacity(1 << 20, file.map_err(Error::io("create", &path))?);
        Ok(Self { file, path, ends: Vec::new() })
    }

    /// Puts a text behind the others, and says its number.
    pub fn add(&mut self, text: &str) -> Result<u32> {
        let number = u32::try_from(self.ends.len()).map_err(|_| {
            Error::Environment(format!("`{}` would hold more than 2^32 texts", self.path.display()))
        })?;
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.ends.push(self.ends.last().unwrap_or(&0) + text.len() as u64);
        Ok(number)
    }

    /// Ends writing.
    pub fn finish(mut self) -> Result<Texts> {
        self.file.flush().map_err(Error::io("write", &self.path))?;
        let (file, _) = self.file.into_parts();
        Ok(Texts { file, path: self.path, ends: self.ends })
    }
}

/// A shelf that is read, by any number of threads.
pub struct Texts {
    file: File,
    path: PathBuf,
    ends: Vec<u64>,
}

impl Texts {
    /// The text of a number that [`Shelf::add`] gave.
    pub fn get(&self, number: u32) -> Result<String> {
        let at = number as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        let mut bytes = vec![0; (self.ends[at] - start) as usize];
        self.file.read_exact_at(&mut bytes, start).map_err(Error::io("read", &self.path))?;
        let text = String::from_utf8(bytes);
        Ok(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_in_any_order() {
        let folder = tempfile::tempdir().expect("folder");
        let mut shelf = Shelf::create(folder.path()).expect("create");
        let texts = ["one", "", "dreißig\n", "\u{fffd}"];
        let numbers: Vec<u32> = texts.iter().map(|text| shelf.add(text).expect("add")).collect();
        let shelf = shelf.finish().expect("finish");
        for (number, text) in numbers.iter().zip(texts).rev() {
            assert_eq!(shelf.get(*number).expect("get"), text);
        }
    }
}
