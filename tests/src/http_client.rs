//! A small HTTP/1.1 client that sends exactly what a test specifies: any path byte for byte, bodies of any size
//! with Content-Length or chunked, and connections closed in the middle.
//!
//! One connection per request. A second thread writes the request while the response is read, so that a
//! response that comes before the request was read completely is not lost.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use ring::digest;

use crate::fcgi_client::retry_interrupted;

/// How many bytes of a response's body are kept; of the rest, only length and checksum.
const KEPT_BYTES: usize = 2 * 1024 * 1024;

/// How long to wait for a silent server: mod_fcgid may take 64 s to find a process.
const TIMEOUT: Duration = Duration::from_secs(90);

/// One request, as it will be on the wire.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, sent as it is.
    pub method: String,
    /// Path and query, sent byte for byte.
    pub target: Vec<u8>,
    /// Further header lines. The body's own are added, and Host if it is missing.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Upload,
}

/// A request's body.
#[derive(Clone, Debug)]
pub enum Upload {
    /// None, and no Content-Length either.
    Nothing,
    /// This many bytes of the [`pattern`], with Content-Length.
    Counted(u64),
    /// This many bytes of the [`pattern`] in chunks, without Content-Length.
    Chunked(u64),
    /// These bytes, with Content-Length.
    Text(Vec<u8>),
}

/// A response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Header names in lower case, and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body's first `KEPT_BYTES`.
    pub body: Vec<u8>,
    /// The whole body's length in bytes.
    pub body_bytes: u64,
    /// The whole body's SHA-256 in hexadecimal.
    pub sha256: String,
}

impl Request {
    /// A GET of `target`.
    pub fn get(target: impl Into<Vec<u8>>) -> Self {
        Self::with_method("GET", target)
    }

    /// A POST of `body` to `target`.
    pub fn post(target: impl Into<Vec<u8>>, body: Upload) -> Self {
        Self { body, ..Self::with_method("POST", target) }
    }

    /// A request of any method, without a body.
    pub fn with_method(method: &str, target: impl Into<Vec<u8>>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.into(),
            headers: Vec::new(),
            body: Upload::Nothing,
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts `base` before the target.
    #[must_use]
    pub fn below(mut self, base: &str) -> Self {
        self.target.splice(0..0, base.bytes());
        self
    }

    /// Sends the request to `server` and reads the response to its end.
    ///
    /// # Errors
    ///
    /// If the connection fails, the server is silent too long, its response is not HTTP, or it ends early.
    pub fn send(&self, server: SocketAddr) -> io::Result<Response> {
        let connection = self.connect(server)?;
        std::thread::scope(|scope| {
            let upload = connection.stream.try_clone()?;
            // A server may respond and close without reading everything: only the response counts.
            let writer = scope.spawn(move || self.write(&upload));
            let response = connection.read_response(self.method == "HEAD");
            if response.is_err() {
                // Nobody reads any more: the writer must not wait.
                let _ = connection.stream.shutdown(Shutdown::Both);
            }
            let written = writer.join().expect("the writing thread does not panic");
            match (response, written) {
                (Ok(response), _) => Ok(response),
                (Err(error), Err(cause)) => {
                    Err(io::Error::new(error.kind(), format!("{error} (while sending: {cause})")))
                }
                (Err(error), Ok(())) => Err(error),
            }
        })
    }

    /// Sends the request; leaves the connection open and the response unread.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn begin(&self, server: SocketAddr) -> io::Result<Connection> {
        let connection = self.connect(server)?;
        self.write(&connection.stream)?;
        Ok(connection)
    }

    /// Sends the head and `bytes` of a counted body, then leaves the connection open.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn begin_upload(&self, server: SocketAddr, bytes: u64) -> io::Result<Connection> {
        let connection = self.connect(server)?;
        (&connection.stream).write_all(&self.head())?;
        write_pattern(&connection.stream, bytes, |mut stream, piece| stream.write_all(piece))?;
        Ok(connection)
    }

    fn connect(&self, server: SocketAddr) -> io::Result<Connection> {
        let stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream })
    }

    fn head(&self) -> Vec<u8> {
        let mut head = Vec::new();
        head.extend_from_slice(self.method.as_bytes());
        head.push(b' ');
        head.extend_from_slice(&self.target);
        head.extend_from_slice(b" HTTP/1.1\r\nConnection: close\r\n");
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.extend_from_slice(b"Host: tools.test\r\n");
        }
        for (name, value) in &self.headers {
            head.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        let framing = match &self.body {
            Upload::Nothing => String::new(),
            Upload::Counted(bytes) => format!("Content-Length: {bytes}\r\n"),
            Upload::Text(text) => format!("Content-Length: {}\r\n", text.len()),
            Upload::Chunked(_) => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        head.extend_from_slice(framing.as_bytes());
        head.extend_from_slice(b"\r\n");
        head
    }

    fn write(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.write_all(&self.head())?;
        match &self.body {
            Upload::Nothing => Ok(()),
            Upload::Text(text) => stream.write_all(text),
            Upload::Counted(bytes) => {
                write_pattern(stream, *bytes, |mut stream, piece| stream.write_all(piece))
            }
            Upload::Chunked(bytes) => {
                write_pattern(stream, *bytes, |mut stream, piece| {
                    stream.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
                    stream.write_all(piece)?;
                    stream.write_all(b"\r\n")
                })?;
                stream.write_all(b"0\r\n\r\n")
            }
        }
    }
}

impl Upload {
    /// The body's length in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Counted(bytes) | Self::Chunked(bytes) => *bytes,
            Self::Text(text) => text.len() as u64,
        }
    }

    /// The body's SHA-256 in hexadecimal.
    pub fn sha256(&self) -> String {
        let mut checksum = Checksum::default();
        match self {
            Self::Nothing => {}
            Self::Text(text) => checksum.update(text),
            Self::Counted(bytes) | Self::Chunked(bytes) => {
                for_each_piece(*bytes, |piece| checksum.update(piece));
            }
        }
        checksum.hex()
    }
}

impl Response {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body, as far as it was kept, as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection on which a request has been sent. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Sends the rest of a body, `bytes` of the [`pattern`] from its beginning, and reads the response to its end.
    ///
    /// # Errors
    ///
    /// See [`Request::send`].
    pub fn finish_upload(self, bytes: u64) -> io::Result<Response> {
        write_pattern(&self.stream, bytes, |mut stream, piece| stream.write_all(piece))?;
        self.read_response(false)
    }

    /// Reads the response to its end.
    ///
    /// # Errors
    ///
    /// See [`Request::send`].
    pub fn finish(self) -> io::Result<Response> {
        self.read_response(false)
    }

    /// Reads at least `bytes` of the raw response and leaves the rest unread.
    ///
    /// # Errors
    ///
    /// If the response ends before.
    pub fn read_at_least(&self, bytes: usize) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        let mut got = 0;
        while got < bytes {
            match retry_interrupted(|| (&self.stream).read(&mut buffer))? {
                0 => return Err(early_end("the response")),
                more => got += more,
            }
        }
        Ok(())
    }

    /// Reads the raw response until this has arrived, and leaves the rest unread.
    ///
    /// # Errors
    ///
    /// If the response ends before.
    pub fn read_until(&self, text: &[u8]) -> io::Result<()> {
        let mut arrived = Vec::new();
        let mut byte = [0];
        while !arrived.ends_with(text) {
            match retry_interrupted(|| (&self.stream).read(&mut byte))? {
                0 => return Err(early_end("the response")),
                _ => arrived.push(byte[0]),
            }
        }
        Ok(())
    }

    fn read_response(&self, head_only: bool) -> io::Result<Response> {
        let mut reader = BufReader::with_capacity(256 * 1024, &self.stream);
        let mut response = read_head(&mut reader)?;
        // An interim response (100 Continue) precedes the final one.
        while (100..200).contains(&response.status) {
            response = read_head(&mut reader)?;
        }
        let mut body = BodyReader { response: &mut response, checksum: Checksum::default() };
        if head_only || matches!(body.response.status, 204 | 304) {
            // No body follows.
        } else if body
            .response
            .header("transfer-encoding")
            .is_some_and(|coding| coding.contains("chunked"))
        {
            body.read_chunks(&mut reader)?;
        } else if let Some(length) = body.response.header("content-length") {
            let length: u64 = length.parse().map_err(|_| not_http(length))?;
            body.read_exactly(&mut reader, length)?;
        } else {
            body.read_to_end(&mut reader)?;
        }
        let checksum = body.checksum;
        response.sha256 = checksum.hex();
        Ok(response)
    }
}

/// Reads a body into a response: keeps the first part, counts and checksums everything.
struct BodyReader<'a> {
    response: &'a mut Response,
    checksum: Checksum,
}

impl BodyReader<'_> {
    fn take(&mut self, piece: &[u8]) {
        self.checksum.update(piece);
        self.response.body_bytes += piece.len() as u64;
        let room = KEPT_BYTES.saturating_sub(self.response.body.len());
        self.response.body.extend_from_slice(&piece[..piece.len().min(room)]);
    }

    fn read_exactly(&mut self, reader: &mut impl BufRead, mut left: u64) -> io::Result<()> {
        while left > 0 {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                return Err(early_end("the response's body"));
            }
            let used = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.take(&buffer[..used]);
            reader.consume(used);
            left -= used as u64;
        }
        Ok(())
    }

    fn read_chunks(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        loop {
            let line = read_line(reader)?;
            let size = line.split(';').next().unwrap_or("").trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| not_http(&line))?;
            self.read_exactly(reader, size)?;
            if size > 0 {
                read_line(reader)?;
                continue;
            }
            // Trailers end with an empty line.
            while !read_line(reader)?.is_empty() {}
            return Ok(());
        }
    }

    fn read_to_end(&mut self, reader: &mut impl BufRead) -> io::Result<()> {
        loop {
            let buffer = reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(());
            }
            let used = buffer.len();
            self.take(buffer);
            reader.consume(used);
        }
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Response> {
    let status_line = read_line(reader)?;
    let status = status_line
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| not_http(&status_line))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').ok_or_else(|| not_http(&line))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Response { status, headers, body: Vec::new(), body_bytes: 0, sha256: String::new() })
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(early_end("the response's head"));
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(String::from_utf8_lossy(&line).into_owned())
}

fn early_end(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("{what} ended early"))
}

fn not_http(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line:?}"))
}

/// A running SHA-256.
pub struct Checksum(digest::Context);

impl Default for Checksum {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Checksum {
    /// Adds `piece`.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The checksum in hexadecimal.
    pub fn hex(self) -> String {
        use std::fmt::Write as _;
        self.0.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

/// The pattern's period in bytes: a prime, and so not a multiple of a buffer's size, so that a lost, repeated or
/// moved piece changes the checksum.
const PERIOD: usize = 65_521;

/// The bytes that uploads repeat.
pub fn pattern() -> &'static [u8] {
    static PATTERN: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    PATTERN.get_or_init(|| {
        let mut state: u32 = 0x2545_F491;
        (0..PERIOD)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state.to_le_bytes()[0]
            })
            .collect()
    })
}

/// Calls `take` with `bytes` bytes of the pattern, piece by piece.
pub fn for_each_piece(bytes: u64, mut take: impl FnMut(&[u8])) {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(PERIOD).min(PERIOD);
        take(&pattern()[..piece]);
        left -= piece as u64;
    }
}

fn write_pattern(
    stream: &TcpStream,
    bytes: u64,
    write: impl Fn(&TcpStream, &[u8]) -> io::Result<()>,
) -> io::Result<()> {
    let mut result = Ok(());
    for_each_piece(bytes, |piece| {
        if result.is_ok() {
            result = write(stream, piece);
        }
    });
    result
}
