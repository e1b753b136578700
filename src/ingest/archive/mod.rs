//! Compressed files and archives, read as what they are by their content: `stream` for one compressed file,
//! `unpack` for archives of files.
//!
//! Searches run on clusters, and their logs come home packed: traces as `.gz` or `.zst`, folders of
//! checkpoints as `.tar.gz` or `.zip`. A name says little about what is inside, so only the bytes are asked,
//! but for two cases: tars older than their magic number, and the many formats that are zips underneath and
//! hold no logs.
//!
//! Nothing here trusts a size, a name or a count that the file states. Nothing is unpacked twice: an archive
//! in an archive stays a file.

pub mod stream;
mod tarball;
#[cfg(test)]
mod tests;
pub mod unpack;
mod writer;
mod zipped;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;

use self::stream::{Format, MAX_WINDOW_LOG};

/// How much of a file decides: a block of zstd is at most 128 KiB, and nothing comes out before it is whole.
pub const HEAD: usize = 256 << 10;

/// A block of a tar, and what its first one takes.
const BLOCK: usize = 512;

/// Zips that are documents, packages, arrays or weights, by what their names end in.
const ZIPS_THAT_ARE_FILES: [&str; 44] = [
    "aar", "apk", "bin", "cbz", "ckpt", "conda", "docm", "docx", "ear", "egg", "epub", "ipa", "jar", "keras",
    "kmz", "mar", "mcpack", "nbm", "npz", "nupkg", "odf", "odg", "odp", "ods", "odt", "ora", "pex", "potx",
    "pptm", "pptx", "pt", "pt2", "pth", "pyz", "sketch", "skops", "usdz", "vsix", "war", "whl", "xlsb",
    "xlsm", "xlsx", "xpi",
];

/// An archive's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `.tar`
    Tar,
    /// `.zip`
    Zip,
    /// `.tar.gz`
    TarGz,
    /// `.tar.zst`
    TarZst,
}

/// What kind of archive starts with these bytes ([`HEAD`] of them are enough, fewer if the file is shorter).
/// A single compressed file is none.
pub fn kind(head: &[u8], name: &Path) -> Option<Kind> {
    let name = name.as_os_str().as_bytes().to_ascii_lowercase();
    let named = |endings: &[&str]| endings.iter().any(|ending| name.ends_with(ending.as_bytes()));
    match Format::of(head) {
        Format::Plain if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") => {
            let ending = name.rsplit(|&byte| byte == b'.').next().unwrap_or_default();
            let is_file =
                name.contains(&b'.') && ZIPS_THAT_ARE_FILES.iter().any(|known| known.as_bytes() == ending);
            (!is_file).then_some(Kind::Zip)
        }
        Format::Plain => is_tar(head, named(&[".tar"])).then_some(Kind::Tar),
        Format::Gzip => {
            let start = start(flate2::read::MultiGzDecoder::new(head));
            is_tar(&start, named(&[".tar.gz", ".tgz"])).then_some(Kind::TarGz)
        }
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(head).ok()?;
            decoder.window_log_max(MAX_WINDOW_LOG).ok()?;
            is_tar(&start(decoder), named(&[".tar.zst", ".tzst"])).then_some(Kind::TarZst)
        }
    }
}

/// What kind of archive a file is.
pub fn kind_of(path: &Path) -> io::Result<Option<Kind>> {
    let file = regular(path)?;
    let name = path.file_name().unwrap_or_default();
    let mut head = read_head(&file, BLOCK)?;
    if Format::of(&head) != Format::Plain || Format::is_hidden(&head) {
        head = read_head(&file, HEAD)?;
    }
    Ok(kind(&head, Path::new(name)))
}

/// Opens a regular file. Others, a pipe for one, could wait for ever.
fn regular(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    File::open(path)
}

/// The first bytes of a file, which stays where it is.
fn read_head(file: &File, length: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut head[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// The first block of what a decoder yields, as far as it gets.
fn start(decoder: impl Read) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    // Where it stops, reading it will tell why.
    let _ = decoder.take(BLOCK as u64).read_to_end(&mut block);
    block
}

/// Whether a block is a tar's first. A tar without magic is one by its checksum, if its name says so too.
fn is_tar(block: &[u8], named: bool) -> bool {
    let Some(block) = block.get(..BLOCK) else { return false };
    if &block[257..262] == b"ustar" {
        return true;
    }
    if !named {
        return false;
    }
    // No entry at all is how an empty archive starts.
    if block.iter().all(|&byte| byte == 0) {
        return true;
    }
    let stated = std::str::from_utf8(&block[148..156])
        .ok()
        .and_then(|digits| u32::from_str_radix(digits.trim_matches(['\0', ' ']), 8).ok());
    // The checksum's own place counts as blanks.
    let sum = block
        .iter()
        .enumerate()
        .fold(0, |sum, (at, &byte)| sum + u32::from(if (148..156).contains(&at) { b' ' } else { byte }));
    stated == Some(sum)
}
