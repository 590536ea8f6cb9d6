//! Many who are slow or silent cost the others nothing that they would notice.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::external::External;
use end_to_end::fixtures::{App, Setup, external};
use end_to_end::process_table;
use end_to_end::program::{Limit, allow_descriptors};

const IDLE: usize = 1000;
const DRIPPING: usize = 200;
const REQUESTS: usize = 3000;

/// The 99th percentile of requests on one kept connection, one after another.
fn p99(program: &External) -> Duration {
    let mut connection = program.connect().expect("it listens");
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let begun = Instant::now();
            let answer = connection.get(id(1), true, "/healthz").expect("an answer comes");
            assert_eq!(answer.body(), b"ok");
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[REQUESTS * 99 / 100]
}

#[test]
fn a_thousand_idle_and_two_hundred_dripping_connections_delay_nobody() {
    allow_descriptors(4096).expect("the hard limit allows it");
    let setup = Setup::new(App::Toolshed, "").with_variable("TOOLSHED_MAX_CONNECTIONS", "2000");
    let mut program = external::start_limited(&setup, Limit::Descriptors, 4096, None)
        .expect("the program starts");
    let alone = p99(&program);

    let idle: Vec<FastCgi> = (0..IDLE)
        .map(|_| {
            let mut connection = program.connect().expect("it listens");
            connection.get(id(1), true, "/healthz").expect("an answer comes");
            connection
        })
        .collect();
    let mut dripping: Vec<UnixStream> =
        (0..DRIPPING).map(|_| UnixStream::connect(program.socket()).expect("it listens")).collect();
    // BEGIN_REQUEST, then PARAMS of 60,000 bytes, which will never be whole.
    let begin = b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00";
    let params = b"\x01\x04\x00\x01\xea\x60\x00\x00";
    for connection in &mut dripping {
        connection.write_all(&[&begin[..], params].concat()).expect("it is read");
    }
    let over = AtomicBool::new(false);
    let in_the_crowd = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for connection in &mut dripping {
                    connection.write_all(b"x").expect("it is read");
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let measured = p99(&program);
        over.store(true, Ordering::Relaxed);
        measured
    });
    println!("p99 {alone:?} alone, {in_the_crowd:?} among {IDLE} idle and {DRIPPING} dripping");
    let open = process_table::descriptors(program.app.pid()).expect("it runs");
    assert!(open > IDLE + DRIPPING, "all of them are still connected: {open}");
    let used = |pid| process_table::processor_time(pid).expect("it runs");
    let before = used(program.app.pid());
    thread::sleep(Duration::from_secs(1));
    let idle_cost = used(program.app.pid()) - before;
    assert!(idle_cost < Duration::from_millis(300), "a crowd that is silent costs {idle_cost:?}");
    drop(idle);
    assert_eq!(program.check_unharmed(), Ok(()));
    assert!(fs::exists(program.socket()).expect("the folder is there"));
}
