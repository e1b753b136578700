//! The line at the foot of a terminal that says how far a training is, and is drawn again and again.
//!
//! There is one for the process, because there is one terminal: whatever else is said takes the line away first and
//! puts it back below. Elsewhere there is none, and nothing here writes a byte.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::tcgetwinsize;

/// What the line says, while it is shown.
static SHOWN: Mutex<Option<String>> = Mutex::new(None);

/// Whether standard output is a terminal on which a line can be drawn again.
pub(super) fn possible() -> bool {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    std::io::stdout().is_terminal() && !dumb
}

/// Draws the line.
pub(super) fn draw(text: String) {
    let mut shown = lock();
    put(&drawn(&text, width()));
    *shown = Some(text);
}

/// Takes the line away; or leaves it above what follows.
pub(super) fn end(keep: bool) {
    if lock().take().is_some() {
        put(if keep { "\n" } else { GONE });
    }
}

/// Writes something else, above the line.
pub(super) fn above(write: impl FnOnce()) {
    let shown = lock();
    match &*shown {
        None => write(),
        Some(text) => {
            put(GONE);
            write();
            put(&drawn(text, width()));
        }
    }
}

/// To the line's beginning, and nothing behind it.
const GONE: &str = "\r\x1b[K";

/// The bytes that draw a line: cut, because a line that the terminal breaks is not taken away whole.
fn drawn(text: &str, width: usize) -> String {
    let cut: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{GONE}{cut}")
}

fn width() -> usize {
    let size = tcgetwinsize(std::io::stdout()).ok().filter(|size| size.ws_col > 0);
    size.map_or(80, |size| usize::from(size.ws_col))
}

fn put(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn lock() -> MutexGuard<'static, Option<String>> {
    SHOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_less_than_the_terminal() {
        assert_eq!(drawn("step   1/2  loss 2.5", 80), "\r\x1b[Kstep   1/2  loss 2.5");
        assert_eq!(drawn("step   1/2  loss 2.5", 11), "\r\x1b[Kstep   1/2");
        assert_eq!(drawn("step", 0), GONE);
    }
}
