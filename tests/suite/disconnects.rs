//! Clients that hang up in the middle of a record, a body or a response, while the program keeps restarting in place.
//! 100,000 conversations; a million with `tests/run --long`.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use end_to_end::fcgi_client::{FastCgi, id};
use end_to_end::fixtures::external::{self, External};
use end_to_end::fixtures::{App, Setup};
use end_to_end::process_table;
use end_to_end::program::touch;
use fastcgi_server::client::Connection;
use fastcgi_server::{RequestId, Role};

const CLIENTS: u64 = 2;

/// One conversation in this many is complete and must get its response.
const COMPLETE: u64 = 50;

/// The longest that a complete conversation may take.
const BOUND: Duration = Duration::from_secs(10);

/// The time between two restarts.
const BETWEEN_TOUCHES: Duration = Duration::from_millis(300);

/// Random numbers, the same in every run (xorshift).
struct Moments(u64);

impl Moments {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % limit.max(1)
    }
}

/// The bytes of a web server's side of a conversation.
fn script(moments: &mut Moments) -> Vec<u8> {
    let mut connection = Connection::new();
    match moments.below(6) {
        0 => request(&mut connection, id(1), "GET", "/healthz", 0),
        1 => request(&mut connection, id(1), "GET", "/", 0),
        2 => request(&mut connection, id(1), "POST", "/tools/checksum", 3000),
        3 => request(&mut connection, id(1), "GET", "/tools/diagnostics/stream?mib=1", 0),
        4 => {
            request(&mut connection, id(1), "GET", "/tools/diagnostics/sleep?seconds=0.01", 0);
            connection.abort(id(1));
        }
        _ => {
            request(&mut connection, id(1), "GET", "/tools/diagnostics/sleep?seconds=0.001", 0);
            request(&mut connection, id(2), "POST", "/tools/checksum", 40_000);
            request(&mut connection, id(3), "GET", "/healthz", 0);
        }
    }
    let mut bytes = Vec::new();
    while connection.unsent() > 0 {
        let mut slices = [io::IoSlice::new(&[]); 16];
        let count = connection.transmit(&mut slices);
        let sent = slices[..count].iter().map(|slice| slice.len()).sum();
        slices[..count].iter().for_each(|slice| bytes.extend_from_slice(slice));
        connection.transmitted(sent);
    }
    bytes
}

fn request(connection: &mut Connection, id: RequestId, method: &str, target: &str, body: usize) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let length = body.to_string();
    let pairs = [
        ("REQUEST_METHOD", method),
        ("REQUEST_URI", target),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("CONTENT_LENGTH", &*length),
        ("CONTENT_TYPE", "application/octet-stream"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("HTTP_HOST", "tools.test"),
    ];
    assert!(connection.begin(id, Role::Responder, true));
    connection.params(id, pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())));
    connection.params_end(id);
    connection.stdin(id, Bytes::from(vec![b'x'; body]));
    connection.stdin_end(id);
}

/// Has a conversation that ends at a random byte.
fn leave(program: &External, moments: &mut Moments) -> io::Result<()> {
    let script = script(moments);
    let cut = moments.below(script.len() + 1);
    let mut stream = UnixStream::connect(program.socket())?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.set_write_timeout(Some(BOUND))?;
    // In two pieces, so that the program reads the first one separately.
    let first = moments.below(cut + 1);
    stream.write_all(&script[..first])?;
    if moments.below(4) == 0 {
        thread::sleep(Duration::from_micros(moments.below(500) as u64));
    }
    stream.write_all(&script[first..cut])?;
    match moments.below(4) {
        // Read a part of the response: the request is complete.
        0 if cut == script.len() => {
            let _ = stream.read(&mut vec![0; 1 + moments.below(5000)])?;
        }
        1 => {
            // Send no more, but read to the end.
            stream.shutdown(Shutdown::Write)?;
            io::copy(&mut stream, &mut io::sink())?;
        }
        2 => stream.shutdown(Shutdown::Both)?,
        _ => {}
    }
    Ok(())
}

/// Has a complete conversation, on its own connection.
fn stay(program: &External, moments: &mut Moments) -> Result<(), String> {
    let started = Instant::now();
    let target = ["/healthz", "/", "/tools/checksum"][moments.below(3)];
    let mut connection = FastCgi::connect(&program.socket()).map_err(|error| error.to_string())?;
    let response = connection.get(id(1), false, target);
    let response = response.map_err(|error| format!("{target}: {error}"))?;
    if response.status() != 200 || started.elapsed() > BOUND {
        return Err(format!("{target}: {} after {:?}", response.status(), started.elapsed()));
    }
    Ok(())
}

#[test]
fn clients_that_leave_at_odd_moments_leave_nothing_behind() {
    let total = if end_to_end::is_long() { 1_000_000 } else { 100_000 };
    let setup = Setup::new(App::Toolshed, "")
        .with_upgrade()
        .with_variable("TOOLSHED_PUBLIC", "all,diagnostics");
    let mut program = external::start_with(&setup, |start, folder| {
        start.variable("TOOLSHED_LAUNCHER", folder.join("run/launcher"))
    })
    .expect("the program starts");
    assert_eq!(program.check_unharmed(), Ok(()));
    let started = Instant::now();
    let done = AtomicU64::new(0);
    let mut touches = 0;
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                let (program, done) = (&program, &done);
                scope.spawn(move || {
                    let mut moments = Moments(0x9e37_79b9_7f4a_7c15 + client);
                    for number in 0..total / CLIENTS {
                        if number % COMPLETE == 0 {
                            stay(program, &mut moments).unwrap_or_else(|failure| {
                                panic!("client {client}, conversation {number}: {failure}")
                            });
                        } else if let Err(error) = leave(program, &mut moments) {
                            // The program may close first, because of a malformed record.
                            let is_closed = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
                            assert!(
                                is_closed.contains(&error.kind()),
                                "client {client}, conversation {number}: {error}"
                            );
                        }
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            touch(&program.launcher()).expect("the launcher is there");
            touches += 1;
            thread::sleep(BETWEEN_TOUCHES);
        }
    });
    let upgrades = program.app.output().matches("Upgraded; serving").count();
    println!(
        "{total} conversations, {touches} touches, {upgrades} upgrades in {:?}",
        started.elapsed()
    );
    assert!(upgrades > 0, "{}", program.app.output());
    assert_eq!(done.into_inner(), total);
    assert_eq!(program.check_unharmed(), Ok(()));
    // Nothing is left behind: no descriptor, no draining child, no memory.
    let deadline = Instant::now() + BOUND;
    let pid = program.app.pid();
    loop {
        let open = process_table::descriptors(pid).expect("it runs");
        let running = process_table::running_from(&program.folder().join("bin")).len();
        if open <= 20 && running == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "{open} descriptors, {running} processes");
        thread::sleep(Duration::from_millis(20));
    }
    let memory = process_table::kib(pid, "VmRSS").expect("it runs");
    assert!(memory < 64 << 10, "{memory} KiB after {total} conversations");
}
