//! The application's end of a connection, with untrusted input: `src/server_connection.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::server_connection::run(input));
