//! The web server's end of a connection, with untrusted input: `src/client_connection.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::client_connection::run(input));
