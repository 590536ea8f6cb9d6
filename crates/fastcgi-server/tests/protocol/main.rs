//! Whole conversations with the application's end of a connection, without a network.
//!
//! `wire.rs` builds and reads bytes without the crate's own encoders, so that an error in those
//! cannot hide; `application.rs` is the one place that calls the connection. The rest are cases.

// clippy sees tests only in functions marked as such; here even the helpers are nothing else.
#![allow(clippy::unwrap_used)]

mod application;
mod client;
mod closing;
mod hostile;
mod malformed;
mod recorded;
mod round_trip;
mod wire;

#[test]
fn no_file_is_forgotten() {
    let main = include_str!("main.rs");
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/protocol");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name}.rs is no module");
    }
}
