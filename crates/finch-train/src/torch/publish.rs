//! Folders and files that appear whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::checkpoint::newest;
use finch_train::error::{Error, Result};

/// Fills a folder beside its place and renames it there; what stands there already gives way once the new one is
/// whole. When that fails nothing is left of the new one, and the error says what there is in `out` to go on from.
pub(crate) fn publish(out: &Path, target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let [aside, old] = beside(target);
    let _ = (fs::remove_dir_all(&aside), fs::remove_dir_all(&old));
    let attempt = || -> Result<()> {
        fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
        fill(&aside)?;
        finch_core::shard::sync_folder(&aside)?;
        if target.exists() {
            fs::rename(target, &old).map_err(Error::io("replace", target))?;
        }
        fs::rename(&aside, target).map_err(Error::io("write", target))?;
        // The parent of a name alone is the folder that the program works in.
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        finch_core::shard::sync_folder(parent.unwrap_or(Path::new(".")))?;
        // What cannot be removed takes space and does no harm.
        let _ = fs::remove_dir_all(&old);
        Ok(())
    };
    attempt().map_err(|error| {
        let _ = fs::remove_dir_all(&aside);
        let kept = newest(out).map_or(
            "there was no checkpoint yet: the same command starts from the beginning".to_owned(),
            |kept| {
                format!(
                    "the checkpoint in `{}` was not touched; the same command goes on from it",
                    kept.display()
                )
            },
        );
        match error {
            Error::Io { action, path, source, hint: None } => {
                Error::Io { action, path, source, hint: Some(kept) }
            }
            // Hashing and syncing are of the library that both programs share.
            Error::Core(finch_core::Error::Io { action, path, source }) => {
                Error::Io { action, path, source, hint: Some(kept) }
            }
            other => other,
        }
    })
}

/// Where a folder is prepared, and where the one that it replaces waits.
fn beside(target: &Path) -> [PathBuf; 2] {
    let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
    ["tmp", "old"].map(|ending| target.with_file_name(format!(".{name}.{ending}")))
}

/// Refuses a place of the user's own, beside which stands what publishing would take for its own and remove.
pub(crate) fn refuse_leftovers(target: &Path) -> Result<()> {
    match beside(target).into_iter().find(|path| path.exists()) {
        Some(path) => {
            Err(Error::Usage(format!("`{}` is in the way; move it or name another folder", path.display())))
        }
        None => Ok(()),
    }
}

pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read", path)(error)),
    };
    let parsed = serde_json::from_slice(&text);
    parsed.map(Some).map_err(|source| Error::io("read", path)(std::io::Error::other(source)))
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text = serde_json::to_vec_pretty(value);
    write_bytes(path, &text.map_err(|source| Error::io("write", path)(std::io::Error::other(source)))?)
}

pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}
