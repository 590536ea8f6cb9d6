//! Many who are slow or silent cost the others nothing that they would notice.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::external::External;
use end_to_end::fixtures::{App, Running, Setup, external, nginx, serve};
use end_to_end::http_client::{Checksum, Request, pattern};
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

/// How long a crowd stays: past the minute after which who drips is too slow, with `tests/run --long`.
fn stay() -> Duration {
    let is_long = std::env::var_os("TOOLSHED_TESTS_LONG").is_some();
    Duration::from_secs(if is_long { 75 } else { 8 })
}

/// A connection that has sent the beginning of a request, and sends a byte of the rest now and then.
struct Dripping(TcpStream);

impl Dripping {
    fn begin(server: SocketAddr, start: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(server)?;
        stream.set_nonblocking(true)?;
        stream.write_all(start.as_bytes())?;
        Ok(Dripping(stream))
    }

    /// Whether somebody still listens.
    fn drip(&mut self) -> bool {
        self.0.write(b"x").is_ok()
    }

    /// The status it was answered with, if it was.
    fn status(&mut self) -> Option<String> {
        let mut buffer = [0; 12];
        let count = self.0.read(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).replace("HTTP/1.1 ", ""))
    }
}

/// What an honest visitor has met: the slowest answer, and how many there were.
#[derive(Debug)]
struct Visit {
    slowest: Duration,
    answers: usize,
}

/// Lets `size` visitors send the beginning of a request and then a byte every ten seconds, and come again when
/// they were disconnected, while an honest one from the same address asks for /healthz.
fn visit_among(size: usize, running: &Running, beginning: &str) -> Visit {
    const TICK: Duration = Duration::from_millis(100);
    const TICKS_A_BYTE: usize = 100;
    let server = running.address;
    let begin = || Dripping::begin(server, beginning).ok();
    let begun = Instant::now();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let over = &over;
        let attack = scope.spawn(move || {
            let mut crowd: Vec<_> = (0..size).map(|_| begin()).collect();
            for tick in 0.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                for one in crowd.iter_mut().skip(tick % TICKS_A_BYTE).step_by(TICKS_A_BYTE) {
                    if !one.as_mut().is_some_and(Dripping::drip) {
                        *one = begin();
                    }
                }
                thread::sleep(TICK);
            }
            crowd.into_iter().flatten().filter_map(|mut one| one.status()).collect::<Vec<_>>()
        });
        let mut visit = Visit { slowest: Duration::ZERO, answers: 0 };
        let mut trouble = None;
        while begun.elapsed() < stay() && trouble.is_none() {
            let asked = Instant::now();
            match Request::get("/healthz").below(running.base).send(server) {
                Ok(answer) if answer.status == 200 => visit.answers += 1,
                Ok(answer) => trouble = Some(answer.status.to_string()),
                Err(error) => trouble = Some(error.to_string()),
            }
            visit.slowest = visit.slowest.max(asked.elapsed());
            thread::sleep(TICK);
        }
        let after = begun.elapsed();
        over.store(true, Ordering::Relaxed);
        let statuses = attack.join().expect("the crowd does not panic");
        let count = |status: &str| statuses.iter().filter(|it| *it == status).count();
        let (none, overload, slow) = (count(""), count("503"), count("408"));
        println!("{visit:?}; of {size}: closed {none}, answered 503 {overload}, 408 {slow}");
        assert_eq!(trouble, None, "after {after:?}, {visit:?}");
        visit
    })
}

/// How long an honest visitor may have to wait: the second that each newcomer is given to say what it wants,
/// and what a busy machine adds.
const NOTICEABLE: Duration = Duration::from_millis(2500);

fn slow_body(base: &str) -> String {
    format!(
        "POST {base}/tools/checksum?alg=sha256 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx"
    )
}

#[test]
fn slow_bodies_shut_nobody_out() {
    allow_descriptors(4096).expect("the hard limit allows it");
    let running = serve::start(&Setup::new(App::Toolshed, "")).expect("it starts");
    let visit = visit_among(530, &running, &slow_body(""));
    assert!(visit.slowest < NOTICEABLE, "{visit:?}");
    assert_eq!(running.stop(), Ok(()));
}

#[test]
fn slow_bodies_behind_nginx_shut_nobody_out() {
    allow_descriptors(4096).expect("the hard limit allows it");
    let running = nginx::start(&Setup::new(App::Toolshed, "/project"), false).expect("it starts");
    let visit = visit_among(530, &running, &slow_body("/project"));
    assert!(visit.slowest < NOTICEABLE, "{visit:?}");
    assert_eq!(running.stop(), Ok(()));
}

#[test]
fn slow_heads_shut_nobody_out() {
    allow_descriptors(4096).expect("the hard limit allows it");
    let running = serve::start(&Setup::new(App::Toolshed, "")).expect("it starts");
    let visit = visit_among(1500, &running, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ");
    assert!(visit.slowest < NOTICEABLE, "{visit:?}");
    assert_eq!(running.stop(), Ok(()));
}

/// A phone in a train: 2 KiB a second, and tunnels of 15 s.
#[test]
fn an_honest_slow_upload_arrives() {
    const SECONDS: usize = 4;
    let is_long = std::env::var_os("TOOLSHED_TESTS_LONG").is_some();
    let (tunnels, tunnel) = if is_long { (4, 15) } else { (2, 3) };
    let with_nginx = nginx::start(&Setup::new(App::Toolshed, "/project"), false);
    let running = [serve::start(&Setup::new(App::Toolshed, "")), with_nginx];
    thread::scope(|scope| {
        for running in running {
            scope.spawn(move || {
                let running = running.expect("it starts");
                let piece = &pattern()[..2048];
                let pieces = (tunnels + 1) * SECONDS;
                let mut stream = TcpStream::connect(running.address).expect("it listens");
                write!(
                    stream,
                    "POST {}/tools/checksum?alg=sha256 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                     Content-Length: {}\r\n\r\n",
                    running.base,
                    piece.len() * pieces
                )
                .expect("it reads");
                let mut checksum = Checksum::default();
                for at in 0..pieces {
                    let is_tunnel = at > 0 && at % SECONDS == 0;
                    thread::sleep(Duration::from_secs(if is_tunnel { tunnel } else { 1 }));
                    stream.write_all(piece).expect("it reads");
                    checksum.update(piece);
                }
                let mut answer = String::new();
                stream.read_to_string(&mut answer).expect("it answers");
                assert!(answer.contains(&checksum.hex()), "{answer}");
                assert_eq!(running.stop(), Ok(()));
            });
        }
    });
}
