//! Many slow or idle clients do not noticeably delay others.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::external::External;
use end_to_end::fixtures::{App, Running, Setup, external, nginx, serve};
use end_to_end::http_client::{Checksum, Request, Upload, pattern};
use end_to_end::process_table;
use end_to_end::program::{Limit, allow_descriptors};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType};

const IDLE: usize = 1000;
const DRIPPING: usize = 200;
const REQUESTS: usize = 3000;

/// The 99th percentile of the times of consecutive requests on a keep-alive connection.
fn p99(program: &External) -> Duration {
    let mut connection = program.connect().expect("it listens");
    let mut times: Vec<Duration> = (0..REQUESTS)
        .map(|_| {
            let started = Instant::now();
            let response = connection.get(id(1), true, "/healthz").expect("a response arrives");
            assert_eq!(response.body(), b"ok");
            started.elapsed()
        })
        .collect();
    times.sort();
    times[REQUESTS * 99 / 100]
}

#[test]
fn a_thousand_idle_and_two_hundred_dripping_connections_delay_no_request() {
    allow_descriptors(4096).expect("the hard limit allows it");
    let setup = Setup::new(App::Toolshed, "").with_variable("TOOLSHED_MAX_CONNECTIONS", "2000");
    let mut program = external::start_limited(&setup, Limit::Descriptors, 4096, None)
        .expect("the program starts");
    let quiet = p99(&program);

    let idle: Vec<FastCgi> = (0..IDLE)
        .map(|_| {
            let mut connection = program.connect().expect("it listens");
            connection.get(id(1), true, "/healthz").expect("a response arrives");
            connection
        })
        .collect();
    let mut dripping: Vec<UnixStream> =
        (0..DRIPPING).map(|_| UnixStream::connect(program.socket()).expect("it listens")).collect();
    // BEGIN_REQUEST, then PARAMS of 60,000 bytes, which are never complete.
    let begin = b"\x01\x01\x00\x01\x00\x08\x00\x00\x00\x01\x01\x00\x00\x00\x00\x00";
    let params = b"\x01\x04\x00\x01\xea\x60\x00\x00";
    for connection in &mut dripping {
        connection.write_all(&[&begin[..], params].concat()).expect("it is read");
    }
    let over = AtomicBool::new(false);
    let crowded = thread::scope(|scope| {
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
    println!("p99 {quiet:?} without, {crowded:?} among {IDLE} idle and {DRIPPING} dripping");
    let open = process_table::descriptors(program.app.pid()).expect("it runs");
    assert!(open > IDLE + DRIPPING, "all of them are still connected: {open}");
    let used = |pid| process_table::processor_time(pid).expect("it runs");
    let before = used(program.app.pid());
    thread::sleep(Duration::from_secs(1));
    let idle_cost = used(program.app.pid()) - before;
    assert!(idle_cost < Duration::from_millis(300), "idle connections cost {idle_cost:?} in 1 s");
    drop(idle);
    assert_eq!(program.check_unharmed(), Ok(()));
    assert!(fs::exists(program.socket()).expect("the folder is there"));
}

/// How long a crowd stays. With `tests/run --long`, longer than the minute after which slow requests end with 408.
fn stay() -> Duration {
    let is_long = std::env::var_os("TOOLSHED_TESTS_LONG").is_some();
    Duration::from_secs(if is_long { 75 } else { 8 })
}

/// A connection that has sent the beginning of a request and sends the rest byte by byte.
struct Dripping(TcpStream);

impl Dripping {
    fn begin(server: SocketAddr, from: Ipv4Addr, start: &str) -> io::Result<Self> {
        // Otherwise, programs that other tests start would inherit it.
        const CLOEXEC: SocketFlags = SocketFlags::CLOEXEC;
        let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, CLOEXEC, None)?;
        net::bind(&socket, &SocketAddrV4::new(from, 0))?;
        net::connect(&socket, &server)?;
        let mut stream = TcpStream::from(socket);
        stream.set_nonblocking(true)?;
        stream.write_all(start.as_bytes())?;
        Ok(Dripping(stream))
    }

    /// Sends a byte; returns whether the connection is still open.
    fn drip(&mut self) -> bool {
        self.0.write(b"x").is_ok()
    }

    /// The status of the response, if there is one; empty if the connection was closed without a response.
    fn status(&mut self) -> Option<String> {
        let mut buffer = [0; 12];
        match self.0.read(&mut buffer) {
            Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).replace("HTTP/1.1 ", "")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(String::new()),
        }
    }
}

/// Clients that send the beginning of a request and then a byte every ten seconds.
struct Crowd<'a> {
    size: usize,
    beginning: &'a str,
    /// True: each has its own address and reconnects as soon as it is refused. False: all have the same address and
    /// reconnect when their next byte is due.
    is_spread: bool,
}

impl Crowd<'_> {
    fn address(&self, index: usize) -> Ipv4Addr {
        let [high, low] = (index as u16).to_be_bytes();
        if self.is_spread { Ipv4Addr::new(127, 1 + high, low, 1) } else { Ipv4Addr::LOCALHOST }
    }

    fn begin(&self, server: SocketAddr, index: usize) -> Option<Dripping> {
        Dripping::begin(server, self.address(index), self.beginning).ok()
    }

    /// Runs until `over`; returns the statuses of the last requests' responses.
    fn stay(&self, server: SocketAddr, over: &AtomicBool) -> Vec<String> {
        let mut crowd: Vec<_> = (0..self.size).map(|index| self.begin(server, index)).collect();
        for tick in 0.. {
            if over.load(Ordering::Relaxed) {
                break;
            }
            for (index, one) in crowd.iter_mut().enumerate() {
                let is_turn = index % TICKS_A_BYTE == tick % TICKS_A_BYTE;
                let is_there = one.as_mut().is_some_and(|one| {
                    (!self.is_spread || one.status().is_none()) && (!is_turn || one.drip())
                });
                if !is_there && (is_turn || self.is_spread) {
                    *one = self.begin(server, index);
                }
            }
            thread::sleep(TICK);
        }
        crowd.into_iter().flatten().filter_map(|mut one| one.status()).collect()
    }
}

const TICK: Duration = Duration::from_millis(100);
const TICKS_A_BYTE: usize = 100;

/// The result of an honest client.
#[derive(Debug)]
struct Visit {
    slowest: Duration,
    responses: usize,
}

/// Repeats an honest request from one address while a crowd is connected.
fn visit_among(crowd: &Crowd<'_>, running: &Running, request: Request) -> Visit {
    let server = running.address;
    let request = request.below(running.base);
    let started = Instant::now();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attack = scope.spawn(|| crowd.stay(server, &over));
        let mut visit = Visit { slowest: Duration::ZERO, responses: 0 };
        let mut failure = None;
        while started.elapsed() < stay() && failure.is_none() {
            let asked = Instant::now();
            match request.send(server) {
                Ok(response) if response.status == 200 => visit.responses += 1,
                Ok(response) => failure = Some(response.status.to_string()),
                Err(error) => failure = Some(error.to_string()),
            }
            visit.slowest = visit.slowest.max(asked.elapsed());
            thread::sleep(TICK);
        }
        let after = started.elapsed();
        over.store(true, Ordering::Relaxed);
        let statuses = attack.join().expect("the crowd does not panic");
        let count = |status: &str| statuses.iter().filter(|it| *it == status).count();
        let (none, overload, slow) = (count(""), count("503"), count("408"));
        let size = crowd.size;
        println!("{visit:?}; of {size}: closed {none}, answered 503 {overload}, 408 {slow}");
        assert_eq!(failure, None, "after {after:?}, {visit:?}");
        visit
    })
}

/// How long an honest client may have to wait: the second that each new connection has to send its request, and
/// what a busy machine adds.
const NOTICEABLE: Duration = Duration::from_millis(2500);

fn slow_body(base: &str) -> String {
    format!(
        "POST {base}/tools/checksum?alg=sha256 HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nx"
    )
}

fn start(is_behind_nginx: bool) -> Running {
    allow_descriptors(4096).expect("the hard limit allows it");
    if is_behind_nginx {
        nginx::start(&Setup::new(App::Toolshed, "/project"), false).expect("it starts")
    } else {
        serve::start(&Setup::new(App::Toolshed, "")).expect("it starts")
    }
}

/// Checks that a client that sends `request` does not notice `size` slow uploads.
fn check_among_slow_bodies(size: usize, is_spread: bool, running: Running, request: Request) {
    let crowd = Crowd { size, beginning: &slow_body(running.base), is_spread };
    let visit = visit_among(&crowd, &running, request);
    assert!(visit.slowest < NOTICEABLE, "{visit:?}");
    assert_eq!(running.stop(), Ok(()));
}

fn small_upload() -> Request {
    Request::post("/tools/checksum?alg=sha256", Upload::Counted(1000))
}

#[test]
fn slow_bodies_do_not_block_other_requests() {
    check_among_slow_bodies(530, false, start(false), Request::get("/healthz"));
}

#[test]
fn slow_bodies_behind_nginx_do_not_block_other_requests() {
    check_among_slow_bodies(530, false, start(true), Request::get("/healthz"));
}

#[test]
fn slow_bodies_from_many_addresses_do_not_block_small_uploads() {
    check_among_slow_bodies(450, true, start(false), small_upload());
}

#[test]
fn slow_bodies_from_many_addresses_behind_nginx_do_not_block_small_uploads() {
    check_among_slow_bodies(450, true, start(true), small_upload());
}

#[test]
fn slow_heads_do_not_block_other_requests() {
    let running = start(false);
    let beginning = "GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: ";
    let crowd = Crowd { size: 1500, beginning, is_spread: false };
    let visit = visit_among(&crowd, &running, Request::get("/healthz"));
    assert!(visit.slowest < NOTICEABLE, "{visit:?}");
    assert_eq!(running.stop(), Ok(()));
}

/// A phone in a train: 2 KiB a second, and tunnels of 15 s.
#[test]
fn a_slow_but_honest_upload_succeeds() {
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
                let mut response = String::new();
                stream.read_to_string(&mut response).expect("it answers");
                assert!(response.contains(&checksum.hex()), "{response}");
                assert_eq!(running.stop(), Ok(()));
            });
        }
    });
}
