//! One HTTP/1.1 connection of the load, for programs behind a web server.
//!
//! Implements only as much of HTTP as the responses of our own web servers need: a head, then a body
//! delimited by Content-Length, by chunks, or by the end of the connection.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use event_loop::net::Stream;

use crate::fastcgi::{connect, make_room};
use crate::response::{HttpResponse, end_of_head, number, value};
use crate::run::{Run, Served};

/// Sends requests on one connection until none is left to send or, with a connection per request,
/// until the first has been answered.
///
/// # Errors
///
/// If the connect fails or the connection breaks.
pub async fn connection(run: &Run, served: &Cell<Served>) -> io::Result<()> {
    let mut stream = connect(&run.options.to, run.options.patience).await?;
    let head = request_head(run);
    let mut input = BytesMut::new();
    while run.may_begin() {
        Served::begin(served);
        let start = Instant::now();
        let mut reader = Reader { stream: &mut stream, run, input: &mut input };
        let (response, kept) = reader.request(&head).await?;
        Served::record_response(served);
        run.record_response(start, response.fault(&run.expected));
        if run.options.new_connections || !kept {
            break;
        }
    }
    Ok(())
}

/// Builds the head of every request.
fn request_head(run: &Run) -> Bytes {
    let options = &run.options;
    let method = if options.body.is_some() { "POST" } else { "GET" };
    let mut head = format!("{method} {} HTTP/1.1\r\nHost: tools.example.org\r\n", options.path);
    for (name, value) in [
        ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("Accept-Language", "de,en-US;q=0.7,en;q=0.3"),
        ("Cookie", "session=4f1c0b7ad95e4b0c8c7a2f6d; theme=dark"),
    ] {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = options.body {
        head += &format!("Content-Type: application/octet-stream\r\nContent-Length: {body}\r\n");
    }
    if options.new_connections {
        head += "Connection: close\r\n";
    }
    Bytes::from(head + "\r\n")
}

struct Reader<'a> {
    stream: &'a mut Stream,
    run: &'a Run,
    /// What has been read and not yet parsed.
    input: &'a mut BytesMut,
}

impl Reader<'_> {
    /// Sends one request and reads its response. Returns whether the connection stays open.
    async fn request(&mut self, head: &Bytes) -> io::Result<(HttpResponse, bool)> {
        self.send(head).await?;
        let mut left = self.run.options.body.unwrap_or(0);
        while left > 0 {
            let piece = left.min(self.run.piece.len() as u64);
            self.send(&self.run.piece.slice(..piece as usize)).await?;
            left -= piece;
        }
        let head = loop {
            match end_of_head(self.input) {
                // `100 Continue` and other interim responses do not count.
                Some(end) if self.input.starts_with(b"HTTP/1.1 1") => {
                    drop(self.input.split_to(end))
                }
                Some(end) => break self.input.split_to(end),
                None => self.more().await?,
            }
        };
        let status = head.get(9..12).and_then(number).unwrap_or(0);
        let mut response = HttpResponse::new(status);
        let kept = !value(&head, b"connection").is_some_and(|it| it.eq_ignore_ascii_case(b"close"));
        if value(&head, b"transfer-encoding").is_some() {
            self.chunks(&mut response).await?;
            Ok((response, kept))
        } else if let Some(length) = value(&head, b"content-length").and_then(number) {
            self.body(length, &mut response).await?;
            Ok((response, kept))
        } else {
            self.rest(&mut response).await?;
            Ok((response, false))
        }
    }

    async fn body(&mut self, length: u64, response: &mut HttpResponse) -> io::Result<()> {
        let mut left = length;
        while left > 0 {
            if self.input.is_empty() {
                self.more().await?;
            }
            let count = left.min(self.input.len() as u64);
            response.add(&self.input.split_to(count as usize), &self.run.expected);
            left -= count;
        }
        Ok(())
    }

    /// Reads a chunked body (RFC 9112 §7.1), without trailers.
    async fn chunks(&mut self, response: &mut HttpResponse) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            let text = std::str::from_utf8(line.trim_ascii()).unwrap_or_default();
            let size = text.split(';').next().unwrap_or_default();
            let length = u64::from_str_radix(size, 16)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a chunk has no length"))?;
            self.body(length, response).await?;
            self.line().await?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    async fn rest(&mut self, response: &mut HttpResponse) -> io::Result<()> {
        loop {
            let data = self.input.split();
            response.add(&data, &self.run.expected);
            match self.more().await {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    async fn line(&mut self) -> io::Result<BytesMut> {
        loop {
            if let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                return Ok(self.input.split_to(end + 1));
            }
            self.more().await?;
        }
    }

    async fn send(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let slices = [IoSlice::new(data)];
            let sent = poll_fn(|context| self.stream.poll_write_vectored(context, &slices)).await?;
            data = &data[sent..];
        }
        Ok(())
    }

    async fn more(&mut self) -> io::Result<()> {
        make_room(self.input);
        match poll_fn(|context| self.stream.poll_read_into(context, self.input)).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }
}
