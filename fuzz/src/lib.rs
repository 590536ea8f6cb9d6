//! What the targets do with an input, without libFuzzer.
//!
//! `crates/fastcgi-server/tests/protocol/seeds.rs` includes these files and runs them over every seed.

pub mod client_connection;
pub mod server_connection;
