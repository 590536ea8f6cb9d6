//! Whole conversations with the application's end of a connection, without a network.
//!
//! `wire.rs` builds and reads bytes without the crate's own encoders, so that an error in those
//! cannot hide; `application.rs` is the one place that calls the connection,
//! `web_server.rs` its mirror for the other end. The rest are cases.

// clippy recognizes tests only in functions marked as such; all helpers here are test code too.
#![allow(clippy::unwrap_used)]

mod application;
mod client;
mod closing;
mod edges;
mod hostile;
mod malformed;
mod mistakes;
mod recorded;
mod round_trip;
mod seeds;
mod web_server;
mod wire;

#[test]
fn every_file_is_a_module() {
    let main = include_str!("main.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(
            name == "main" || main.contains(&format!("mod {name};")),
            "{name}.rs is not a module"
        );
    }
}
