//! The application's end of a connection, fed by a stranger: `src/server_connection.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::server_connection::run(input));
