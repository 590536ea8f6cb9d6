//! A FastCGI client on a unix socket, as a web server that multiplexes would be: the bytes are
//! `fastcgi_server::client`'s, the waiting is plain blocking reads.

use std::collections::HashMap;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use fastcgi_server::client::{Connection, Event};
use fastcgi_server::{Params, ProtocolStatus, RequestId, Role};

/// How long a silent program is waited for: longer than any test has it wait before it answers.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection to a FastCGI program.
#[derive(Debug)]
pub struct FastCgi {
    stream: UnixStream,
    core: Connection,
    /// Answers begun, by request.
    answers: HashMap<RequestId, Answer>,
    /// Requests in the order in which they ended.
    ended: Vec<RequestId>,
    values: Option<Params>,
}

/// What a program answered to one request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// STDOUT as it came.
    pub stdout: Vec<u8>,
    /// STDERR as it came.
    pub stderr: Vec<u8>,
    /// END_REQUEST's two numbers, once it came.
    pub end: Option<(u32, ProtocolStatus)>,
}

impl Answer {
    /// The `Status:` of the answer; 200 when there is none.
    pub fn status(&self) -> u16 {
        self.head()
            .lines()
            .find_map(|line| line.strip_prefix("Status:")?.trim().get(..3)?.parse().ok())
            .unwrap_or(200)
    }

    /// What follows the head.
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

/// Makes a request's id of a number above 0.
///
/// # Panics
/// At 0.
pub fn id(number: u16) -> RequestId {
    RequestId::new(number).expect("ids begin at 1")
}

impl FastCgi {
    /// Connects to the program that listens on `socket`.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            core: Connection::new(),
            answers: HashMap::new(),
            ended: Vec::new(),
            values: None,
        })
    }

    /// Begins a request and sends its parameters; STDIN stays open. Nothing is written yet: see
    /// [`flush`](Self::flush).
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
        self.answers.insert(id, Answer::default());
    }

    /// Sends a part of a request's body.
    pub fn stdin(&mut self, id: RequestId, data: Bytes) {
        self.core.stdin(id, data);
    }

    /// Ends a request's body.
    pub fn stdin_end(&mut self, id: RequestId) {
        self.core.stdin_end(id);
    }

    /// Says that an answer is not wanted any more.
    pub fn abort(&mut self, id: RequestId) {
        self.core.abort(id);
    }

    /// Asks for management values.
    ///
    /// # Errors
    /// When the connection fails.
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

    /// Writes all that waits.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn flush(&mut self) -> io::Result<()> {
        while self.core.unsent() > 0 {
            let written = {
                let mut slices = [IoSlice::new(&[]); 16];
                let count = self.core.transmit(&mut slices);
                undisturbed(|| (&self.stream).write_vectored(&slices[..count]))?
            };
            self.core.transmitted(written);
        }
        Ok(())
    }

    /// Sends a whole request without a body and waits for its answer.
    ///
    /// # Errors
    /// When the connection fails.
    pub fn get(&mut self, id: RequestId, keep: bool, target: &str) -> io::Result<Answer> {
        self.begin(id, keep, "GET", target, None);
        self.stdin_end(id);
        self.flush()?;
        self.finish(id)
    }

    /// Waits for the end of this request's answer.
    ///
    /// # Errors
    /// When the connection fails or ends before.
    pub fn finish(&mut self, id: RequestId) -> io::Result<Answer> {
        while self.answers.get(&id).is_some_and(|answer| answer.end.is_none()) {
            self.read()?;
        }
        self.ended.retain(|ended| *ended != id);
        self.answers
            .remove(&id)
            .ok_or_else(|| io::Error::other(format!("request {id} was never begun")))
    }

    /// Waits for the end of any answer.
    ///
    /// # Errors
    /// When the connection fails or ends before.
    pub fn finish_any(&mut self) -> io::Result<(RequestId, Answer)> {
        while self.ended.is_empty() {
            self.read()?;
        }
        let id = self.ended[0];
        Ok((id, self.finish(id)?))
    }

    /// How much of an answer came so far.
    pub fn received(&self, id: RequestId) -> usize {
        self.answers.get(&id).map_or(0, |answer| answer.stdout.len())
    }

    /// Reads once and takes what came.
    ///
    /// # Errors
    /// When the connection fails or has ended.
    pub fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 256 * 1024];
        let got = undisturbed(|| (&self.stream).read(&mut buffer))?;
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
                    self.answers.entry(id).or_default().stdout.extend_from_slice(&data);
                }
                Event::Stderr { id, data } => {
                    self.answers.entry(id).or_default().stderr.extend_from_slice(&data);
                }
                Event::End { id, app_status, protocol_status } => {
                    self.answers.entry(id).or_default().end = Some((app_status, protocol_status));
                    self.ended.push(id);
                }
                Event::Values(values) => self.values = Some(values),
                Event::UnknownType(_) => {}
                Event::Failed(error) => return Err(io::Error::other(error.to_string())),
            }
        }
        Ok(())
    }

    /// The socket itself, for conversations no state machine would hold.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }
}

/// Begins anew when a signal has come. Sockets with a timeout say so whatever the handler asked for
/// (signal(7)); tests of child processes have SIGCHLD handled.
///
/// # Errors
/// Those of `call`, but for Interrupted.
pub fn undisturbed<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
