//! How far a stage is: a bar on a terminal, and nothing anywhere else.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often a bar is drawn.
const DRAWN: Duration = Duration::from_millis(100);

/// Counts what the current stage has done; any thread may add to it.
#[derive(Default)]
pub struct Meter {
    shown: bool,
    counts: Arc<Counts>,
    bar: Mutex<Option<ProgressBar>>,
}

#[derive(Default)]
struct Counts {
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Rows, or bytes, in all; 0 when nobody knows.
    total: AtomicU64,
    by_bytes: AtomicBool,
}

impl Meter {
    /// A meter that is shown when standard error is a terminal that can draw.
    pub(super) fn for_terminal() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        let shown = std::io::stderr().is_terminal() && !dumb;
        Self { shown, counts: Arc::default(), bar: Mutex::default() }
    }

    /// Starts anew for a stage.
    pub(super) fn begin(&self, stage: &str) {
        self.counts.rows.store(0, Ordering::Relaxed);
        self.counts.bytes.store(0, Ordering::Relaxed);
        self.counts.total.store(0, Ordering::Relaxed);
        if !self.shown {
            return;
        }
        let counts = self.counts.clone();
        let state = move |state: &ProgressState, to: &mut dyn std::fmt::Write| {
            let _ = to.write_str(&counts.said(state.elapsed()));
        };
        // Narrow: a line that the terminal breaks is not taken away whole.
        let template = "{prefix:<12} {bar:10.cyan} {state}";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = ProgressBar::with_draw_target(Some(u64::MAX), ProgressDrawTarget::stderr());
        bar.set_style(style.with_key("state", state).progress_chars("━━─"));
        bar.set_prefix(stage.to_owned());
        bar.enable_steady_tick(DRAWN);
        *self.bar.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
    }

    /// Says how many rows there will be.
    pub fn expect_rows(&self, rows: u64) {
        self.expect(rows, false);
    }

    /// Says how many bytes will be read.
    pub fn expect_bytes(&self, bytes: u64) {
        self.expect(bytes, true);
    }

    fn expect(&self, total: u64, by_bytes: bool) {
        self.counts.total.store(total, Ordering::Relaxed);
        self.counts.by_bytes.store(by_bytes, Ordering::Relaxed);
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.set_length(total.max(1));
        }
    }

    /// Adds what was done.
    pub fn add(&self, rows: u64, bytes: u64) {
        self.counts.rows.fetch_add(rows, Ordering::Relaxed);
        self.counts.bytes.fetch_add(bytes, Ordering::Relaxed);
        if !self.shown {
            return;
        }
        if let Some(bar) = &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.set_position(self.counts.done());
        }
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bar.finish_and_clear();
        }
    }

    /// Writes a line above the bar. A reader that has gone away is no error.
    pub(super) fn line(&self, line: &str) {
        let write = || {
            let _ = writeln!(std::io::stderr(), "{line}");
        };
        match &*self.bar.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.end();
    }
}

impl Counts {
    fn done(&self) -> u64 {
        let count = if self.by_bytes.load(Ordering::Relaxed) { &self.bytes } else { &self.rows };
        count.load(Ordering::Relaxed)
    }

    /// Rows, bytes, their rate and the time that is left, as far as there is something to say.
    fn said(&self, elapsed: Duration) -> String {
        let (rows, bytes) = (self.rows.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        let (done, total) = (self.done(), self.total.load(Ordering::Relaxed));
        let seconds = elapsed.as_secs_f64();
        let mut text = String::new();
        let by_bytes = self.by_bytes.load(Ordering::Relaxed);
        // Some stages go over their rows more than once; what is left is then unknown.
        let known = total > 0 && done <= total;
        if by_bytes {
            let _ = match known {
                true => write!(text, "{} of {}", size(bytes), size(total)),
                false => write!(text, "{}", size(bytes)),
            };
            let _ = write!(text, ", {rows} records");
        } else {
            let _ = match known {
                true => write!(text, "{rows} of {total} rows"),
                false => write!(text, "{rows} rows"),
            };
            let _ = write!(text, ", {}", size(bytes));
        }
        if done > 0 && seconds > 0.0 {
            let rate = done as f64 / seconds;
            let _ = match by_bytes {
                true => write!(text, ", {}/s", size(rate as u64)),
                false => write!(text, ", {rate:.0} rows/s"),
            };
            if known {
                let _ = write!(text, ", {} left", time((total - done) as f64 / rate));
            }
        } else {
            let _ = write!(text, ", {} so far", time(seconds));
        }
        text
    }
}

/// Bytes in the largest unit that leaves a digit before the point.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

fn time(seconds: f64) -> String {
    match seconds.round() as u64 {
        whole @ 0..120 => format!("{whole} s"),
        whole @ 120..7200 => format!("{} min", whole.div_ceil(60)),
        whole => format!("{:.1} h", whole as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_and_what_is_left_is_said() {
        let meter = Meter::default();
        meter.begin("stage");
        assert_eq!(meter.counts.said(Duration::from_secs(3)), "0 rows, 0 B, 3 s so far");
        meter.expect_rows(400);
        meter.add(100, 2_500_000);
        let said = meter.counts.said(Duration::from_secs(10));
        assert_eq!(said, "100 of 400 rows, 2.5 MB, 10 rows/s, 30 s left");
        meter.add(1000, 0);
        assert_eq!(meter.counts.said(Duration::from_secs(10)), "1100 rows, 2.5 MB, 110 rows/s");
        meter.begin("another");
        meter.expect_bytes(4_000_000_000);
        meter.add(20, 1_000_000_000);
        let said = meter.counts.said(Duration::from_secs(100));
        assert_eq!(said, "1.00 GB of 4.00 GB, 20 records, 10.0 MB/s, 5 min left");
    }
}
