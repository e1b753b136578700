//! The `finch-train` program: arguments, plans, inspection, and the search for libtorch; the rest is in the library.

fn main() -> std::process::ExitCode {
    finch_train::cli::main()
}
