//! The `finch` program; everything it does is in the library.

use std::process::ExitCode;

/// Planning SQL recurses once for each operator of a long expression, so it gets more stack than a main thread has.
/// The pages are only reserved.
const STACK: usize = 1 << 30;

fn main() -> ExitCode {
    match std::thread::Builder::new().stack_size(STACK).spawn(finch::cli::main) {
        Ok(thread) => thread.join().unwrap_or(ExitCode::from(101)),
        // Without so much address space the ordinary stack must do.
        Err(_) => finch::cli::main(),
    }
}
