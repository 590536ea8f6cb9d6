//! What the end-to-end tests build on: real web servers, each with its own configuration in its own folder; our
//! programs, started with the limits and the user that a test asks for; and an HTTP client that sends requests
//! byte for byte.
//!
//! The tests themselves are in `suite/`. A request goes from the test through [`http_client`] and the web server
//! ([`fixtures`]) to our program ([`program`], [`bin/test_app.rs`](../src/bin/test_app.rs) or the real
//! `toolshed`); [`process_table`] looks at the programs from outside meanwhile.

pub mod faults;
pub mod fcgi_client;
pub mod fixtures;
pub mod history;
pub mod http_client;
pub mod injection;
pub mod process_table;
pub mod program;
pub mod seccomp;

/// The examples in the project's README compile. Not in `crates/hosted`, whose package does not have the file.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;

/// And those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../docs/your-own-app.md")]
struct YourOwnApp;

/// Whether the long variants run: `tests/run --long`.
pub fn is_long() -> bool {
    std::env::var_os("TOOLSHED_TESTS_LONG").is_some()
}
