//! A FastCGI client on a unix socket, like a web server that multiplexes: `fastcgi_server::client` does the
//! protocol, over plain blocking reads and writes.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fastcgi_server::client::{Connection, Event};
use fastcgi_server::{Params, ProtocolStatus, RequestId, Role};

/// How long to wait for a silent program: longer than any test lets it wait before it responds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// One connection to a FastCGI program.
#[derive(Debug)]
pub struct FastCgi {
    stream: UnixStream,
    core: Connection,
    /// Responses that are complete or in flight, by request.
    responses: HashMap<RequestId, Response>,
    /// Requests in the order in which they ended.
    ended: Vec<RequestId>,
    values: Option<Params>,
}

/// A program's response to one request.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// The content of the STDOUT stream.
    pub stdout: Vec<u8>,
    /// The content of the STDERR stream.
    pub stderr: Vec<u8>,
    /// END_REQUEST's application and protocol status, once it has arrived.
    pub end: Option<(u32, ProtocolStatus)>,
}

impl Response {
    /// The status in the `Status:` line; 200 without one.
    pub fn status(&self) -> u16 {
        self.head()
            .lines()
            .find_map(|line| line.strip_prefix("Status:")?.trim().get(..3)?.parse().ok())
            .unwrap_or(200)
    }

    /// The body: what follows the head.
    pub fn body(&self) -> &[u8] {
        self.split().1
    }

    /// The head as text.
    pub fn head(&self) -> String {
        String::from_utf8_lossy(self.split().0).into_owned()
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let end = self.stdout.windows(4).position(|window| window == b"\r\n\r\n");
        end.map_or((&self.stdout, &[]), |end| (&self.stdout[..end], &self.stdout[end + 4..]))
    }
}

/// Makes a request id from a number above 0.
///
/// # Panics
///
/// If the number is 0.
pub fn id(number: u16) -> RequestId {
    RequestId::new(number).expect("ids begin at 1")
}

impl FastCgi {
    /// Connects to the program that listens on `socket`.
    ///
    /// # Errors
    ///
    /// If no process listens there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self {
            stream,
            core: Connection::new(),
            responses: HashMap::new(),
            ended: Vec::new(),
            values: None,
        })
    }

    /// Starts a request and queues its parameters; STDIN stays open. [`flush`](Self::flush) writes them.
    pub fn begin(
        &mut self,
        id: RequestId,
        keep: bool,
        method: &str,
        target: &str,
        length: Option<u64>,
    ) {
        self.begin_with(id, keep, method, target, length, &[]);
    }

    /// As [`begin`](Self::begin), with further variables, such as `HTTP_COOKIE`.
    pub fn begin_with(
        &mut self,
        id: RequestId,
        keep: bool,
        method: &str,
        target: &str,
        length: Option<u64>,
        more: &[(&str, &str)],
    ) {
        let path = target.split('?').next().unwrap_or("");
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let length = length.map(|length| length.to_string()).unwrap_or_default();
        let pairs = [
            ("REQUEST_METHOD", method),
            ("REQUEST_URI", target),
            ("SCRIPT_NAME", ""),
            ("PATH_INFO", path),
            ("QUERY_STRING", query),
            ("CONTENT_LENGTH", &length),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("SERVER_NAME", "tools.test"),
            ("SERVER_PORT", "80"),
            ("REMOTE_ADDR", "127.0.0.1"),
            ("HTTP_HOST", "tools.test"),
        ];
        assert!(self.core.begin(id, Role::Responder, keep), "{id:?} is free");
        let pairs = pairs.iter().chain(more);
        self.core.params(id, pairs.map(|(name, value)| (name.as_bytes(), value.as_bytes())));
        self.core.params_end(id);
        self.responses.insert(id, Response::default());
    }

    /// Queues a part of a request's body.
    pub fn stdin(&mut self, id: RequestId, data: Bytes) {
        self.core.stdin(id, data);
    }

    /// Queues the end of a request's body.
    pub fn stdin_end(&mut self, id: RequestId) {
        self.core.stdin_end(id);
    }

    /// Queues an ABORT_REQUEST.
    pub fn abort(&mut self, id: RequestId) {
        self.core.abort(id);
    }

    /// Queries management values (GET_VALUES).
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn values(&mut self, names: &[&str]) -> io::Result<Params> {
        self.core.get_values(names.iter().map(|name| name.as_bytes()));
        self.flush()?;
        loop {
            if let Some(values) = self.values.take() {
                return Ok(values);
            }
            self.read()?;
        }
    }

    /// Writes everything that is queued.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.core.unsent() > 0 {
            let written = {
                let mut slices = [IoSlice::new(&[]); 16];
                let count = self.core.transmit(&mut slices);
                retry_interrupted(|| (&self.stream).write_vectored(&slices[..count]))?
            };
            self.core.transmitted(written);
        }
        Ok(())
    }

    /// Sends a complete request without a body and waits for its response.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn get(&mut self, id: RequestId, keep: bool, target: &str) -> io::Result<Response> {
        self.begin(id, keep, "GET", target, None);
        self.stdin_end(id);
        self.flush()?;
        self.finish(id)
    }

    /// Waits for the end of this request's response.
    ///
    /// # Errors
    ///
    /// If the connection fails or ends before.
    pub fn finish(&mut self, id: RequestId) -> io::Result<Response> {
        while self.responses.get(&id).is_some_and(|response| response.end.is_none()) {
            self.read()?;
        }
        self.ended.retain(|ended| *ended != id);
        self.responses
            .remove(&id)
            .ok_or_else(|| io::Error::other(format!("request {id} was never started")))
    }

    /// Waits for the end of any response.
    ///
    /// # Errors
    ///
    /// If the connection fails or ends before.
    pub fn finish_any(&mut self) -> io::Result<(RequestId, Response)> {
        while self.ended.is_empty() {
            self.read()?;
        }
        let id = self.ended[0];
        Ok((id, self.finish(id)?))
    }

    /// How many bytes of STDOUT have arrived so far.
    pub fn received(&self, id: RequestId) -> usize {
        self.responses.get(&id).map_or(0, |response| response.stdout.len())
    }

    /// Reads once and handles what arrived.
    ///
    /// # Errors
    ///
    /// If the connection fails or has ended.
    pub fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let got = retry_interrupted(|| (&self.stream).read(&mut buffer))?;
        if got == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the program closed the connection",
            ));
        }
        buffer.truncate(got);
        self.core.handle_input(Bytes::from(buffer));
        while let Some(event) = self.core.poll_event() {
            match event {
                Event::Stdout { id, data } => {
                    self.responses.entry(id).or_default().stdout.extend_from_slice(&data);
                }
                Event::Stderr { id, data } => {
                    self.responses.entry(id).or_default().stderr.extend_from_slice(&data);
                }
                Event::End { id, app_status, protocol_status } => {
                    self.responses.entry(id).or_default().end = Some((app_status, protocol_status));
                    self.ended.push(id);
                }
                Event::Values(values) => self.values = Some(values),
                Event::UnknownType(_) => {}
                Event::Failed(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        Ok(())
    }

    /// The socket itself, for conversations that violate the protocol.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Repeats `call` while a signal interrupts it. Sockets with a timeout return EINTR even with SA_RESTART
/// (signal(7)), and tests of child processes handle SIGCHLD.
///
/// # Errors
///
/// Those of `call`, except Interrupted.
pub fn retry_interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
