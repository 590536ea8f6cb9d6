//! What the end-to-end tests stand on: real web servers started from their own configuration in their
//! own folder, our programs started with the limits and the user a test wants, and an HTTP client
//! that sends what it is told byte for byte.
//!
//! The tests themselves are in `suite/`. The data flows test → [`http_client`] → web server
//! ([`fixtures`]) → our program ([`program`], [`bin/test_app.rs`](../src/bin/test_app.rs) or the real
//! `toolshed`) and back; [`process_table`] looks at the programs from outside meanwhile.

pub mod faults;
pub mod fcgi_client;
pub mod fixtures;
pub mod http_client;
pub mod injection;
pub mod process_table;
pub mod program;
pub mod seccomp;

/// Whether to include what takes long: `tests/run --long`.
pub fn is_long() -> bool {
    std::env::var_os("TOOLSHED_TESTS_LONG").is_some()
}
