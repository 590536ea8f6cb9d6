//! The web server's end of a connection, fed by a stranger: `src/client_connection.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::client_connection::run(input));
