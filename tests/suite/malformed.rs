//! Malformed conversations over a real socket: each gets the reply that docs/fastcgi-support.md
//! documents, and the program continues to serve others.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Setup, external, project};
use end_to_end::process_table;

const BEGIN: u8 = 1;
const ABORT: u8 = 2;
const END: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const STDERR: u8 = 7;
const DATA: u8 = 8;
const GET_VALUES: u8 = 9;
const GET_VALUES_RESULT: u8 = 10;
const UNKNOWN_TYPE: u8 = 11;

const RESPONDER: u8 = 1;
const AUTHORIZER: u8 = 2;

const COMPLETE: u8 = 0;
const OVERLOADED: u8 = 2;
const UNKNOWN_ROLE: u8 = 3;

/// One row, with the name that it has in docs/fastcgi-support.md.
struct Case {
    name: &'static str,
    steps: Vec<Step>,
    expect: Expect,
}

enum Step {
    Send(Vec<u8>),
    /// Read until the END_REQUEST of this id.
    AwaitEnd(u16),
}

/// What happens on the connection.
enum Expect {
    /// No reply, and the next request is answered.
    Ignored,
    /// A record of this type whose content starts with these bytes, and the next request is answered.
    Reply(u8, Vec<u8>),
    /// Request 1 gets this status, and the next request is answered.
    Status(&'static str),
    /// An END_REQUEST of this id, with these application and protocol statuses.
    Ended(u16, u8, u8),
    /// The program closes the connection and logs why.
    Closed,
}

fn record(kind: u8, id: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a record's content is short").to_be_bytes();
    let [high, low] = id.to_be_bytes();
    let mut record = vec![1, kind, high, low, length[0], length[1], 0, 0];
    record.extend_from_slice(content);
    record
}

fn begin(id: u16, role: u8) -> Vec<u8> {
    record(BEGIN, id, &[0, role, 1, 0, 0, 0, 0, 0])
}

fn pair(name: &str, value: &str) -> Vec<u8> {
    let mut pair = vec![u8::try_from(name.len()).expect("names are short")];
    pair.push(u8::try_from(value.len()).expect("values are short"));
    pair.extend_from_slice(name.as_bytes());
    pair.extend_from_slice(value.as_bytes());
    pair
}

fn params(id: u16, target: &str) -> Vec<u8> {
    let pairs =
        [("REQUEST_METHOD", "GET"), ("REQUEST_URI", target), ("SERVER_PROTOCOL", "HTTP/1.1")];
    record(PARAMS, id, &pairs.map(|(name, value)| pair(name, value)).concat())
}

/// A request up to the end of its parameters.
fn head(id: u16, target: &str) -> Vec<u8> {
    [begin(id, RESPONDER), params(id, target), record(PARAMS, id, b"")].concat()
}

/// A complete request.
fn complete(id: u16, target: &str) -> Vec<u8> {
    [head(id, target), record(STDIN, id, b"")].concat()
}

fn table() -> Vec<Case> {
    use Expect::{Closed, Ended, Ignored, Reply, Status};
    let case = |name, bytes: Vec<Vec<u8>>, expect| Case {
        name,
        steps: vec![Step::Send(bytes.concat())],
        expect,
    };
    let too_many: Vec<_> = (1..=65).map(|id| begin(id, RESPONDER)).collect();
    let long_pair = {
        let mut pair = vec![4, 0x80, 0, 0xf0, 0];
        pair.extend_from_slice(b"NAME");
        pair.resize(pair.len() + 0xf000, b'v');
        pair
    };
    let mut flags = begin(1, RESPONDER);
    flags[7] = 0xff;
    flags[10] = 0xff;
    flags[15] = 0xff;
    let mut version_2 = complete(1, "/healthz");
    version_2[0] = 2;
    vec![
        case("a record for an id that was never started", vec![record(STDIN, 5, b"x")], Ignored),
        Case {
            name: "a record for an id whose request is over",
            steps: vec![
                Step::Send(complete(1, "/healthz")),
                Step::AwaitEnd(1),
                Step::Send(record(STDIN, 1, b"late")),
            ],
            expect: Ignored,
        },
        case(
            "a management record of an unknown type",
            vec![record(77, 0, b"x")],
            Reply(UNKNOWN_TYPE, vec![77]),
        ),
        case(
            "a request's record with id 0",
            vec![begin(0, RESPONDER)],
            Reply(UNKNOWN_TYPE, vec![BEGIN]),
        ),
        case(
            "GET_VALUES with an id",
            vec![record(GET_VALUES, 3, &pair("FCGI_MAX_REQS", ""))],
            Ignored,
        ),
        case(
            "GET_VALUES_RESULT or UNKNOWN_TYPE, though nobody asked",
            vec![record(GET_VALUES_RESULT, 0, b""), record(UNKNOWN_TYPE, 0, &[0; 8])],
            Ignored,
        ),
        case("a record of an unknown type with an id", vec![record(99, 1, b"xyz")], Ignored),
        case("a role that does not exist", vec![begin(1, 9)], Ended(1, 0, UNKNOWN_ROLE)),
        case("more requests than the limit", too_many, Ended(65, 0, OVERLOADED)),
        case(
            "PARAMS larger than the limit",
            vec![
                begin(1, RESPONDER),
                record(PARAMS, 1, &long_pair),
                record(PARAMS, 1, &long_pair),
                record(PARAMS, 1, &long_pair),
                record(PARAMS, 1, b""),
                record(STDIN, 1, b""),
            ],
            Status("431"),
        ),
        case(
            "a second end of a stream",
            vec![head(1, "/healthz"), record(PARAMS, 1, b""), record(STDIN, 1, b"")],
            Status("200"),
        ),
        case(
            "DATA for a responder or an authorizer",
            vec![head(1, "/healthz"), record(DATA, 1, b"data"), record(STDIN, 1, b"")],
            Status("200"),
        ),
        case(
            "STDIN for an authorizer",
            vec![
                begin(1, AUTHORIZER),
                params(1, "/slow?milliseconds=100"),
                record(PARAMS, 1, b""),
                record(STDIN, 1, b"stdin"),
                record(STDIN, 1, b""),
            ],
            Status("200"),
        ),
        case(
            "ABORT_REQUEST before the end of PARAMS",
            vec![begin(1, RESPONDER), params(1, "/hang"), record(ABORT, 1, b"")],
            Ended(1, 1, COMPLETE),
        ),
        case(
            "reserved bytes and flags that are not zero",
            vec![flags, params(1, "/healthz"), record(PARAMS, 1, b""), record(STDIN, 1, b"")],
            Status("200"),
        ),
        case(
            "no parameters at all",
            vec![begin(1, RESPONDER), record(PARAMS, 1, b""), record(STDIN, 1, b"")],
            Status("400"),
        ),
        case("a version other than 1", vec![version_2], Closed),
        case(
            "HTTP instead of FastCGI",
            vec![b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()],
            Closed,
        ),
        case("BEGIN_REQUEST of a length other than 8", vec![record(BEGIN, 1, &[0, 1, 1])], Closed),
        case(
            "ABORT_REQUEST of a length other than 0",
            vec![head(1, "/hang"), record(ABORT, 1, b"now")],
            Closed,
        ),
        case("BEGIN_REQUEST for an active id", vec![head(1, "/hang"), begin(1, RESPONDER)], Closed),
        case(
            "PARAMS that end within a pair",
            vec![begin(1, RESPONDER), record(PARAMS, 1, &[200, 1, b'x']), record(PARAMS, 1, b"")],
            Closed,
        ),
        case(
            "GET_VALUES with an impossible length",
            vec![record(GET_VALUES, 0, &[200, 1, b'x'])],
            Closed,
        ),
        case(
            "STDIN or DATA before the end of PARAMS",
            vec![begin(1, RESPONDER), params(1, "/healthz"), record(STDIN, 1, b"x")],
            Closed,
        ),
        case(
            "content for a stream that was ended",
            vec![complete(1, "/hang"), record(STDIN, 1, b"more")],
            Closed,
        ),
        case(
            "END_REQUEST, STDOUT or STDERR for an active id",
            vec![head(1, "/hang"), record(STDOUT, 1, b"x"), record(STDERR, 1, b"x")],
            Closed,
        ),
    ]
}

/// Rows that only the protocol's own tests can test, with the reason.
const NOT_HERE: [(&str, &str); 1] = [(
    "a thousand questions and no reader",
    "socket buffers hold the replies first; unread_replies_to_get_values_are_bounded tests it",
)];

#[test]
fn every_documented_row_is_tested() {
    let text = std::fs::read_to_string(project().join("docs/fastcgi-support.md"));
    let text = text.expect("docs/fastcgi-support.md is there");
    let (_, section) = text.split_once("## Malformed conversations").expect("it has the section");
    let section = section.split("\n## ").next().unwrap_or("");
    let documented: Vec<_> = section
        .lines()
        .filter(|line| {
            line.starts_with("| ") && !line.starts_with("| what") && !line.starts_with("| -")
        })
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .collect();
    let cases = table();
    let mut here: Vec<_> = cases.iter().map(|case| case.name).collect();
    here.extend(NOT_HERE.map(|(name, _)| name));
    assert_eq!(documented, here);
}

#[test]
fn each_malformed_conversation_gets_its_documented_reply() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let mut failures = Vec::new();
    for case in table() {
        let length_before = program.app.output().len();
        let mut result = converse(&program, &case).map_err(|error| error.to_string());
        if result.is_ok() && matches!(case.expect, Expect::Closed) {
            // The log line may come a little later.
            std::thread::sleep(Duration::from_millis(50));
            let output = program.app.output();
            if output.len() == length_before {
                result = Err("the log does not say why".to_owned());
            }
        }
        let result = result.and_then(|()| program.check_unharmed());
        if let Err(error) = result {
            failures.push(format!("{}: {error}", case.name));
        }
    }
    assert!(failures.is_empty(), "{} failures:\n  {}", failures.len(), failures.join("\n  "));
}

fn converse(program: &external::External, case: &Case) -> io::Result<()> {
    let mut wire = Wire::connect(program)?;
    let mut seen = Vec::new();
    for step in &case.steps {
        match step {
            Step::Send(bytes) => match (&wire.stream).write_all(bytes) {
                // The program may have closed already.
                Err(_) if matches!(case.expect, Expect::Closed) => {}
                sent => sent?,
            },
            Step::AwaitEnd(id) => while !wire.read_record()?.is(END, *id) {},
        }
    }
    let wrong = |what: String| Err(io::Error::other(what));
    match &case.expect {
        Expect::Ignored => wire.next_request(),
        Expect::Reply(kind, content) => {
            let record = wire.read_record()?;
            if record.kind != *kind || !record.content.starts_with(content) {
                return wrong(format!("the reply is {record:?}"));
            }
            wire.next_request()
        }
        Expect::Status(status) => {
            loop {
                let record = wire.read_record()?;
                match record.kind {
                    STDOUT if record.id == 1 => seen.extend_from_slice(&record.content),
                    END if record.id == 1 => break,
                    _ => {}
                }
            }
            let head = String::from_utf8_lossy(&seen).into_owned();
            if !head.starts_with(&format!("Status: {status}")) {
                return wrong(format!("the response begins {head:.100?}"));
            }
            wire.next_request()
        }
        Expect::Ended(id, app_status, protocol_status) => {
            let record = wire.read_record()?;
            let wanted = [0, 0, 0, *app_status, *protocol_status];
            if !record.is(END, *id) || !record.content.starts_with(&wanted.map(|byte: u8| byte)) {
                return wrong(format!("the response is {record:?}"));
            }
            if *protocol_status == OVERLOADED {
                // The connection is at its limit of requests.
                return Ok(());
            }
            wire.next_request()
        }
        Expect::Closed => loop {
            match wire.read_record() {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        },
    }
}

/// A connection for arbitrary bytes.
struct Wire {
    stream: UnixStream,
}

#[derive(Debug)]
struct Record {
    kind: u8,
    id: u16,
    content: Vec<u8>,
}

impl Record {
    fn is(&self, kind: u8, id: u16) -> bool {
        self.kind == kind && self.id == id
    }
}

impl Wire {
    fn connect(program: &external::External) -> io::Result<Self> {
        let stream = UnixStream::connect(program.socket())?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.set_write_timeout(Some(Duration::from_secs(5)))?;
        Ok(Self { stream })
    }

    fn read_record(&mut self) -> io::Result<Record> {
        let mut header = [0; 8];
        self.stream.read_exact(&mut header)?;
        let length = u16::from_be_bytes([header[4], header[5]]);
        let mut content = vec![0; usize::from(length) + usize::from(header[6])];
        self.stream.read_exact(&mut content)?;
        content.truncate(length.into());
        Ok(Record { kind: header[1], id: u16::from_be_bytes([header[2], header[3]]), content })
    }

    /// Sends a valid request and waits for its response.
    fn next_request(&mut self) -> io::Result<()> {
        (&self.stream).write_all(&complete(200, "/healthz"))?;
        let mut body = Vec::new();
        loop {
            let record = self.read_record()?;
            if record.is(STDOUT, 200) {
                body.extend_from_slice(&record.content);
            }
            if record.is(END, 200) {
                break;
            }
        }
        if body.ends_with(b"\r\n\r\nok") {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "the response to the next request is {:?}",
            String::from_utf8_lossy(&body)
        )))
    }
}

#[test]
fn unread_replies_to_get_values_are_bounded() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let wire = Wire::connect(&program).expect("it listens");
    wire.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    let query = record(GET_VALUES, 0, &pair("FCGI_MAX_REQS", "")).repeat(100);
    let mut sent = 0;
    // Until the program closes the connection or stops reading: both bound its memory.
    while (&wire.stream).write_all(&query).is_ok() {
        sent += query.len();
        assert!(sent < 64 << 20, "the program keeps reading without a limit");
    }
    assert_eq!(program.check_unharmed(), Ok(()));
}

#[test]
fn hanging_up_at_any_byte_leaves_nothing_behind() {
    let mut program = external::start(&Setup::new(App::TestApp, "")).expect("the program starts");
    let request =
        [head(1, "/echo/x"), record(STDIN, 1, b"the body"), record(STDIN, 1, b"")].concat();
    for cut in 0..request.len() {
        let wire = Wire::connect(&program).expect("it listens");
        (&wire.stream).write_all(&request[..cut]).expect("the program reads");
    }
    assert_eq!(program.check_unharmed(), Ok(()));
    // No descriptor of a closed connection is left open.
    let open = || process_table::descriptors(program.app.pid()).expect("it runs");
    let deadline = Instant::now() + Duration::from_secs(5);
    while open() > 20 {
        assert!(Instant::now() < deadline, "{} descriptors are open", open());
        std::thread::sleep(Duration::from_millis(20));
    }
}
