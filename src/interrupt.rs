//! Signals that ask a build for an end.
//!
//! The current unit of work is finished or given up, what is published stays, and the process ends with 128 and the
//! signal's number. A second signal ends it at once, which loses nothing either: datasets are complete or absent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use finch_core::signals::ignored;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;

use crate::error::{Error, Result};

/// A signal that asks for an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP, which a terminal sends when it is closed.
    Hangup,
    /// SIGINT, which Ctrl-C sends.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }

    /// The exit code after it.
    pub fn exit(self) -> u8 {
        match self {
            Self::Hangup => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

/// Whether somebody asked for an end. One that does not listen is never asked.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicUsize>);

impl Interrupt {
    /// Listens from now on.
    pub fn listen() -> Result<Self> {
        let (asked, again) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let all = [(SIGHUP, Signal::Hangup), (SIGINT, Signal::Interrupt), (SIGTERM, Signal::Terminate)];
        for (number, signal) in all.into_iter().filter(|(number, _)| !ignored(*number)) {
            // In this order: the first signal finds `again` unset, and sets it.
            flag::register_conditional_shutdown(number, i32::from(signal.exit()), Arc::clone(&again))
                .and_then(|_| flag::register(number, Arc::clone(&again)))
                .and_then(|_| flag::register_usize(number, Arc::clone(&asked), number as usize))
                .map_err(Error::io("listen for", "signals"))?;
        }
        // A file beyond the size limit should be an error of that file, not the end of the process.
        flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))
            .map_err(Error::io("listen for", "signals"))?;
        Ok(Self(asked))
    }

    /// The signal that came last, if any.
    pub fn asked(&self) -> Option<Signal> {
        match self.0.load(Ordering::Relaxed) as i32 {
            SIGHUP => Some(Signal::Hangup),
            SIGINT => Some(Signal::Interrupt),
            SIGTERM => Some(Signal::Terminate),
            _ => None,
        }
    }

    /// An error once somebody asked for an end.
    pub fn check(&self) -> Result<()> {
        self.asked().map_or(Ok(()), |signal| {
            let reason = format!("stopped by {}", signal.name());
            let hint = "what was finished is kept; the same command goes on from there".to_owned();
            Err(Error::Interrupted { signal, reason, hint: Some(hint) })
        })
    }
}
