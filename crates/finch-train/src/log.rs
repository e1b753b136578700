//! The trainer's log: every event as a JSON line in a file, as scalars for TensorBoard beside it, and on standard
//! output for people or for a program.

mod foot;
mod words;

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use finch_core::training::{Event, files};

use crate::error::{Error, Result};
use crate::tensorboard::Board;

use words::Words;
pub use words::{by_outcome, by_task};

/// How standard output speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Lines for people.
    Words,
    /// JSON lines.
    Json,
}

/// Where events go.
pub struct Log {
    file: File,
    path: PathBuf,
    board: Board,
    voice: Voice,
    words: Words,
    /// Whether steps are one line of a terminal, drawn again and again, and not a line each.
    redraws: bool,
}

impl Log {
    /// Opens a log for appending: a resumed training goes on in the same file. It is held until the process ends, so
    /// that two trainings never share a folder.
    pub fn open(path: &Path, voice: Voice) -> Result<Self> {
        let place = path.parent().unwrap_or(path);
        let options = File::options().read(true).create(true).append(true).open(path);
        let mut file = options.map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let place = place.display();
                return Err(Error::Usage(format!("another finch-train is at work in `{place}`")));
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
        // Whoever was killed, or ran out of space, may have left half a line.
        if !ends_a_line(&mut file).map_err(Error::io("read", path))? {
            file.write_all(b"\n").map_err(Error::io("write", path))?;
        }
        let board = Board::open(&place.join(files::TENSORBOARD))?;
        let redraws = voice == Voice::Words && foot::possible();
        Ok(Self { file, path: path.to_path_buf(), board, voice, words: Words::default(), redraws })
    }

    /// Adds an event, and says it.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_string(event)
            .map_err(|source| Error::io("write", &self.path)(std::io::Error::other(source)))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        self.board.event(event)?;
        match (self.voice, event) {
            (Voice::Json, _) => say(&line),
            (Voice::Words, Event::Step(step)) if self.redraws => {
                let now = Instant::now();
                self.words.count(step, now);
                if let Some(text) = self.words.progress(step, now) {
                    foot::draw(text);
                }
            }
            (Voice::Words, _) => {
                if matches!(event, Event::Finish(_)) {
                    foot::end(false);
                }
                say(&self.words.lines(event, Instant::now()));
            }
        }
        Ok(())
    }
}

impl Drop for Log {
    /// A training that ends before it is done leaves its last step on the terminal.
    fn drop(&mut self) {
        foot::end(true);
    }
}

/// Whether a file is empty or ends with a line's end.
fn ends_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Says on standard error what a person should know although the training goes on.
pub fn complain(text: &str) {
    foot::above(|| {
        let _ = writeln!(std::io::stderr(), "warning: {text}");
    });
}

/// Writes to standard output. A reader that has gone away is no error: the log has everything.
pub fn say(text: &str) {
    foot::above(|| {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    });
}

#[cfg(test)]
pub(crate) mod examples;

#[cfg(test)]
mod tests;
