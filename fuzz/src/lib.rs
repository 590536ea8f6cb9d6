//! What the targets do with an input, without libFuzzer.
//!
//! `crates/fastcgi-server/tests/protocol/seeds.rs` takes these files in and runs them over every seed.

pub mod client_connection;
pub mod server_connection;
