//! Archives made by hand, one for each rule.
//!
//! Each test writes an archive beside the folder that it unpacks into, so that what escapes is seen.

mod hostile;
mod rules;
mod stream;

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::PathBuf;

use tempfile::TempDir;
use zip::write::SimpleFileOptions;

use super::stream::Bounds;
use super::unpack::{Error, Limits, Skipped, Unpacked, unpack};

const TIGHT: Bounds = Bounds { times: 100, slack: 1 << 20 };

/// A folder to unpack into, in a folder that must stay as it is.
struct Case {
    outside: TempDir,
    into: PathBuf,
}

impl Case {
    fn new() -> Self {
        let outside = tempfile::tempdir().expect("temp dir");
        let into = outside.path().join("into");
        fs::create_dir(&into).expect("create");
        Self { outside, into }
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.outside.path().join(name);
        fs::write(&path, bytes).expect("write");
        path
    }

    fn unpack_with(&self, name: &str, bytes: &[u8], limits: &Limits) -> Result<Unpacked, Error> {
        unpack(&self.file(name, bytes), &self.into, limits, &|| false)
    }

    fn unpack(&self, name: &str, bytes: &[u8]) -> Unpacked {
        self.unpack_with(name, bytes, &Limits::default()).expect("unpack")
    }

    /// The files below the folder; that there is nothing else is checked.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.into.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("list") {
                let path = entry.expect("entry").path();
                let meta = fs::symlink_metadata(&path).expect("metadata");
                if meta.is_dir() {
                    folders.push(path);
                } else {
                    assert!(meta.is_file(), "{path:?}");
                    let name = path.strip_prefix(&self.into).expect("below");
                    files.insert(name.to_string_lossy().into_owned(), fs::read(&path).expect("read"));
                }
            }
        }
        files
    }

    fn names(&self) -> Vec<String> {
        self.files().into_keys().collect()
    }

    fn outside(&self) -> Vec<String> {
        let names = fs::read_dir(self.outside.path()).expect("list");
        let mut names: Vec<_> =
            names.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

fn reasons(unpacked: &Unpacked) -> Vec<(String, &str)> {
    let pair = |skipped: &Skipped| String::from_utf8_lossy(&skipped.name).into_owned();
    unpacked.skipped.iter().map(|skipped| (pair(skipped), skipped.why.as_str())).collect()
}

/// A tar's header and content, with a name of any bytes.
fn entry(name: &[u8], kind: tar::EntryType, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o777);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(name.as_bytes(), tar::EntryType::Regular, content)
}

fn tar_of(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn linked(name: &str, kind: tar::EntryType, target: &str) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).expect("path");
    header.set_entry_type(kind);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
    header.set_size(0);
    header.set_cksum();
    header.as_bytes().to_vec()
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in files {
        zip.start_file(*name, SimpleFileOptions::default()).expect("start");
        zip.write_all(content).expect("write");
    }
    zip.finish().expect("finish").into_inner()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).expect("write");
    encoder.finish().expect("finish")
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("encoder");
    encoder.include_checksum(true).expect("checksum");
    encoder.write_all(bytes).expect("write");
    encoder.finish().expect("finish")
}

/// Much of nothing, in members or frames of 8 MiB each.
fn zeros(megabytes: usize, pack: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    pack(&vec![0; 8 << 20]).repeat(megabytes / 8)
}

/// Bytes without a pattern, the same each time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// Gives a tar's header its true checksum.
fn sign(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header[..512].iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}
