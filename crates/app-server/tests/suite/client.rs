//! The web server's side: a server under test and FastCGI connections to it.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::time::Duration;

use app_server::{HttpService, Settings, Transport};
use bytes::{Bytes, BytesMut};
use event_loop::net::{Address, Stream};
use event_loop::{Task, time};
use fastcgi_server::client::{Connection as Protocol, Event};
use fastcgi_server::{RequestId, Role};
use free_port::FreePort;

/// Far more than any test takes: a test that hangs fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test inside the loop.
pub(crate) fn test(future: impl Future<Output = ()>) {
    event_loop::run(async {
        time::timeout(PATIENCE, future).await.expect("the test took too long");
    })
    .unwrap();
}

/// A server on a socket in a folder of its own; it ends when dropped.
pub(crate) struct Server {
    _task: Task<()>,
    _folder: tempfile::TempDir,
    address: Address,
}

impl Server {
    /// Starts a FastCGI server.
    pub(crate) fn fastcgi<S: HttpService>(service: S, settings: Settings) -> Server {
        Server::start(service, settings, Transport::FastCgi)
    }

    /// Starts an HTTP server.
    pub(crate) fn http<S: HttpService>(service: S, settings: Settings) -> Server {
        Server::start(service, settings, Transport::Http)
    }

    /// Starts a server that the caller has configured, over FastCGI.
    #[allow(dead_code, reason = "not every test binary has a host")]
    pub(crate) fn fastcgi_of<S: HttpService>(server: app_server::Server<S>) -> Server {
        Server::start_of(server, Transport::FastCgi)
    }

    /// Starts a server that the caller has configured, over HTTP.
    #[allow(dead_code, reason = "not every test binary has a host")]
    pub(crate) fn http_of<S: HttpService>(server: app_server::Server<S>) -> Server {
        Server::start_of(server, Transport::Http)
    }

    fn start<S: HttpService>(
        service: S,
        settings: Settings,
        transport: fn(Address) -> Transport,
    ) -> Server {
        Server::start_of(app_server::Server::new(service).settings(settings), transport)
    }

    fn start_of<S: HttpService>(
        server: app_server::Server<S>,
        transport: fn(Address) -> Transport,
    ) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("socket"));
        Server::start_at(server, transport, folder, address)
    }

    /// Starts an HTTP server on a port of this machine.
    pub(crate) fn http_over_tcp<S: HttpService>(service: S, settings: Settings) -> Server {
        let free = FreePort::reserve().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let server = app_server::Server::new(service).settings(settings);
        Server::start_at(server, Transport::Http, folder, Address::Tcp(free.address()))
    }

    fn start_at<S: HttpService>(
        server: app_server::Server<S>,
        transport: fn(Address) -> Transport,
        folder: tempfile::TempDir,
        address: Address,
    ) -> Server {
        let server = server.serve(transport(address.clone()));
        // Its first poll, done at once, creates the socket.
        let task = event_loop::spawn_now(async { server.await.unwrap() });
        Server { _task: task, _folder: folder, address }
    }

    /// Connects, to speak FastCGI.
    pub(crate) async fn connect(&self) -> Client {
        Client {
            stream: Stream::connect(&self.address).await.unwrap(),
            protocol: Protocol::new(),
            input: BytesMut::new(),
        }
    }

    /// Connects, to speak anything.
    pub(crate) async fn connect_raw(&self) -> Stream {
        Stream::connect(&self.address).await.unwrap()
    }
}

/// One connection to a server.
pub(crate) struct Client {
    stream: Stream,
    pub(crate) protocol: Protocol,
    input: BytesMut,
}

/// A complete response.
#[derive(Debug, Default)]
pub(crate) struct Response {
    /// Everything on STDOUT.
    pub(crate) text: Vec<u8>,
    /// END_REQUEST came.
    pub(crate) ended: bool,
}

impl Response {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.text).unwrap()
    }

    /// The status of a complete response.
    #[track_caller]
    pub(crate) fn status(&self) -> u16 {
        assert!(self.ended, "the response broke off: {:?}", self.text());
        let line = self.text().lines().next().unwrap_or_default();
        line["Status: ".len()..][..3].parse().unwrap()
    }

    pub(crate) fn body(&self) -> &[u8] {
        let head = self.text.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        &self.text[head + 4..]
    }
}

pub(crate) fn id(number: u16) -> RequestId {
    RequestId::new(number).unwrap()
}

impl Client {
    /// Queues the start of a request: everything but its body.
    pub(crate) fn begin(&mut self, number: u16, keep: bool, method: &str, uri: &str) {
        let pairs: [(&[u8], &[u8]); 3] = [
            (b"REQUEST_METHOD", method.as_bytes()),
            (b"REQUEST_URI", uri.as_bytes()),
            (b"SCRIPT_NAME", uri.as_bytes()),
        ];
        assert!(self.protocol.begin(id(number), Role::Responder, keep));
        self.protocol.params(id(number), pairs);
        self.protocol.params_end(id(number));
    }

    /// Sends a GET and waits for its response.
    pub(crate) async fn get(&mut self, keep: bool, uri: &str) -> Response {
        self.send_get(1, keep, uri).await;
        self.response(1).await
    }

    /// Sends a GET.
    pub(crate) async fn send_get(&mut self, number: u16, keep: bool, uri: &str) {
        self.begin(number, keep, "GET", uri);
        self.protocol.stdin_end(id(number));
        self.send().await.unwrap();
    }

    /// Sends all that is queued.
    pub(crate) async fn send(&mut self) -> io::Result<()> {
        while self.protocol.unsent() > 0 {
            let mut slices = [IoSlice::new(&[]); 16];
            let sent = {
                let count = self.protocol.transmit(&mut slices);
                let stream = &mut self.stream;
                poll_fn(|context| stream.poll_write_vectored(context, &slices[..count])).await?
            };
            self.protocol.transmitted(sent);
        }
        Ok(())
    }

    /// Sends what is queued and these bytes as they are, then the end of input.
    pub(crate) async fn send_last(&mut self, mut bytes: &[u8]) {
        self.send().await.unwrap();
        while !bytes.is_empty() {
            let (stream, slices) = (&mut self.stream, [IoSlice::new(bytes)]);
            let sent = poll_fn(|context| stream.poll_write_vectored(context, &slices)).await;
            bytes = &bytes[sent.unwrap()..];
        }
        self.stream.shutdown_write().unwrap();
    }

    /// Waits for the next event; `None` when the server closed the connection.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.protocol.poll_event() {
                return Some(event);
            }
            self.input.reserve(64 * 1024);
            let (stream, input) = (&mut self.stream, &mut self.input);
            match poll_fn(|context| stream.poll_read_into(context, input)).await {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.protocol.handle_input(self.input.split_to(count).freeze()),
            }
        }
    }

    /// Waits until the response to a request is complete or the connection is closed.
    pub(crate) async fn response(&mut self, number: u16) -> Response {
        let mut response = Response::default();
        while let Some(event) = self.event().await {
            match event {
                Event::Stdout { id: of, data } if of == id(number) => {
                    response.text.extend(&data[..])
                }
                Event::End { id: of, .. } if of == id(number) => {
                    response.ended = true;
                    break;
                }
                other => panic!("not expected: {other:?}"),
            }
        }
        response
    }

    /// Waits until the server closes the connection; nothing may arrive before.
    pub(crate) async fn closed(&mut self) {
        if let Some(event) = self.event().await {
            panic!("not expected: {event:?}");
        }
    }

    /// Queues a part of a body.
    pub(crate) fn stdin(&mut self, number: u16, data: impl Into<Bytes>) {
        assert!(self.protocol.stdin(id(number), data.into()));
    }
}

/// Writes, then reads to the end.
pub(crate) async fn raw_request(stream: &mut Stream, request: &[u8]) -> String {
    let mut rest = request;
    while !rest.is_empty() {
        let slices = [IoSlice::new(rest)];
        let sent = poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
        rest = &rest[sent..];
    }
    let mut input = BytesMut::new();
    loop {
        input.reserve(4096);
        match poll_fn(|context| stream.poll_read_into(context, &mut input)).await {
            Ok(0) | Err(_) => return String::from_utf8_lossy(&input).into_owned(),
            Ok(_) => {}
        }
    }
}
