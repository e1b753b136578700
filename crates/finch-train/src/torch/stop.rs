//! Signals that ask for an end: what is being done is finished or left, and a checkpoint is written.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use finch_core::signals::ignored;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};

use finch_train::error::{Error, Result};

/// Listens for signals.
pub(crate) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// Begins to listen.
    pub(crate) fn listen() -> Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGTERM].into_iter().filter(|signal| !ignored(*signal)) {
            signal_hook::flag::register_usize(signal, Arc::clone(&asked), signal as usize)
                .map_err(Error::io("listen for", "signals"))?;
        }
        // A file beyond the size limit should be an error of that file, not the end of the process.
        signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
            .map_err(Error::io("listen for", "signals"))?;
        Ok(Self(asked))
    }

    /// The signal that asked for an end, if one did.
    pub(crate) fn asked(&self) -> Option<&'static str> {
        match self.0.load(Ordering::SeqCst) as i32 {
            0 => None,
            SIGHUP => Some("SIGHUP"),
            SIGINT => Some("SIGINT"),
            _ => Some("SIGTERM"),
        }
    }
}
