//! Large bodies use little memory, and a reader that stops makes the writer stop.

use std::thread;
use std::time::Duration;

use bytes::Bytes;
use end_to_end::fcgi_client::id;
use end_to_end::fixtures::{App, Setup, external};
use end_to_end::http_client::{Checksum, pattern};
use end_to_end::process_table;

/// How much the program's memory may grow while a body of any size passes, in KiB.
const GROWTH_KIB: u64 = 768;

/// A body's size in bytes: 256 MiB, or 1 GiB with `tests/run --long`.
fn large() -> u64 {
    if end_to_end::is_long() { 1 << 30 } else { 256 << 20 }
}

/// A program that has served a request of each kind, so that its permanent buffers exist.
fn warm() -> external::External {
    let program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    upload(&program, 4 << 20);
    download(&program, 4);
    process_table::forget_peak(program.app.pid()).expect("it runs");
    program
}

fn peak(program: &external::External) -> u64 {
    process_table::kib(program.app.pid(), "VmHWM").expect("it runs")
}

#[test]
fn an_upload_uses_little_memory() {
    let program = warm();
    let before = peak(&program);
    upload(&program, large());
    let growth = peak(&program) - before;
    assert!(growth <= GROWTH_KIB, "memory grew by {growth} KiB");
}

#[test]
fn a_download_uses_little_memory() {
    let program = warm();
    let before = peak(&program);
    download(&program, large() >> 20);
    let growth = peak(&program) - before;
    assert!(growth <= GROWTH_KIB, "memory grew by {growth} KiB");
}

fn upload(program: &external::External, bytes: u64) {
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), false, "POST", "/echo/upload", Some(bytes));
    let mut checksum = Checksum::default();
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(pattern().len());
        let piece = &pattern()[..piece];
        checksum.update(piece);
        connection.stdin(id(1), Bytes::from_static(piece));
        connection.flush().expect("the program reads");
        left -= piece.len() as u64;
    }
    connection.stdin_end(id(1));
    connection.flush().expect("the program reads");
    let response = connection.finish(id(1)).expect("a response arrives");
    let output = String::from_utf8_lossy(response.body()).into_owned();
    assert!(output.contains(&checksum.hex()), "{output}");
}

/// Reads a response and discards it.
fn download(program: &external::External, mib: u64) {
    use std::io::{Read, Write};
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), false, "GET", &format!("/large?mib={mib}"), None);
    connection.stdin_end(id(1));
    connection.flush().expect("the program reads");
    let mut stream = connection.stream();
    stream.flush().expect("nothing is buffered");
    let mut buffer = vec![0; 256 * 1024];
    let mut got = 0;
    loop {
        match stream.read(&mut buffer).expect("the response continues") {
            0 => break,
            more => got += more as u64,
        }
    }
    // More than the body, because of the record headers.
    assert!(got > mib << 20, "{got} bytes arrived");
}

#[test]
fn a_client_that_stops_reading_blocks_the_handler() {
    let mut program = warm();
    let before = peak(&program);
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), false, "GET", "/large?mib=512", None);
    connection.stdin_end(id(1));
    connection.flush().expect("the program reads");
    connection.read().expect("the response begins");
    thread::sleep(Duration::from_millis(300));
    let busy = process_table::processor_time(program.app.pid()).expect("it runs");
    thread::sleep(Duration::from_secs(1));
    let used = process_table::processor_time(program.app.pid()).expect("it runs") - busy;
    assert!(used < Duration::from_millis(50), "the handler waits: {used:?} in 1 s");
    let growth = peak(&program) - before;
    assert!(growth <= GROWTH_KIB, "memory grew by {growth} KiB");
    // Others are served meanwhile.
    assert_eq!(program.check_unharmed(), Ok(()));
}

#[test]
fn a_handler_that_does_not_read_blocks_the_client() {
    use std::io::Write;
    let mut program = warm();
    let before = peak(&program);
    let mut connection = program.connect().expect("it listens");
    connection.begin(id(1), false, "POST", "/hold?seconds=20", Some(512 << 20));
    connection.flush().expect("the program reads");
    let mut stream = connection.stream();
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let mut record = vec![1, 5, 0, 1, 0xff, 0xf0, 0, 0];
    record.resize(8 + 0xfff0, 0);
    let mut sent = 0;
    while stream.write_all(&record).is_ok() {
        sent += record.len();
        assert!(sent < 64 << 20, "the program keeps reading what no handler reads");
    }
    let growth = peak(&program) - before;
    assert!(growth <= GROWTH_KIB, "memory grew by {growth} KiB");
    assert_eq!(program.check_unharmed(), Ok(()));
}
