//! An S3 server over a folder, for the fault harness, which kills it: `s3-server FOLDER PORT`.

// Prints where it listens.
#![allow(clippy::print_stdout)]

mod server;

use std::path::Path;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder");
    let port = arguments.next().and_then(|port| port.parse().ok()).unwrap_or(0);
    let server = server::Server::start(Path::new(&folder), port);
    println!("{}", server.address());
    loop {
        std::thread::park();
    }
}
