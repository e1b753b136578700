//! What a process was told about signals before it began.

/// Whether a signal is ignored, as `nohup` has it for SIGHUP: whoever listens for it then would undo that. False where
/// the system does not say.
pub fn ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    // Bit 0 is signal 1.
    u32::try_from(signal - 1).is_ok_and(|bit| mask.checked_shr(bit).is_some_and(|mask| mask & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_that_nobody_ignores_is_not_ignored() {
        // SIGTERM of a test; the runtime itself ignores SIGPIPE, which is 13.
        assert!(!ignored(15) && ignored(13));
        assert!(!ignored(0) && !ignored(-5) && !ignored(1000));
    }
}
