//! A proxy in front of the S3 server, on the loop of the test, which does to the first connections what networks and
//! servers do, and then passes on everything. It can also speak TLS.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use event_loop::net::{Address, Listener, Stream};
use event_loop::time::sleep;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What happens to a connection.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is closed after this many bytes of the response.
    CutResponse(usize),
    /// It is closed after this many bytes of the request.
    CutRequest(usize),
    /// The server says this, and closes it.
    Say(&'static str),
    /// It is accepted, and nothing is said.
    Silence,
    /// This byte of the response is another one.
    DamageResponse(usize),
    /// This byte of the request is another one.
    DamageRequest(usize),
    /// Nothing comes after this many bytes of the response.
    StallResponse(usize),
    /// It is closed instead of the response to the completion of a multipart upload.
    LoseCompletion,
    /// In responses, the first text is the second one, which is as long.
    Replace(&'static str, &'static str),
}

#[derive(Default)]
struct State {
    faults: RefCell<VecDeque<Fault>>,
    connections: Cell<usize>,
    open: Cell<usize>,
    max_open: Cell<usize>,
}

/// A proxy that runs as long as the loop.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Rc<State>,
}

impl Proxy {
    /// Starts one in front of a port of 127.0.0.1.
    pub(crate) fn start(behind: u16, tls: Option<Arc<ServerConfig>>) -> Proxy {
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = listener.local_address().unwrap() else { unreachable!() };
        let state = Rc::new(State::default());
        let proxy = Proxy { port: address.port(), state: Rc::clone(&state) };
        event_loop::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, tls) = (Rc::clone(&state), tls.clone());
                event_loop::spawn(async move {
                    state.connections.set(state.connections.get() + 1);
                    state.open.set(state.open.get() + 1);
                    state.max_open.set(state.max_open.get().max(state.open.get()));
                    // What breaks here is what the test is about.
                    let _ = match tls {
                        None => state.serve(stream, behind).await,
                        Some(config) => match TlsAcceptor::from(config).accept(stream).await {
                            Ok(stream) => state.serve(stream, behind).await,
                            Err(error) => Err(error),
                        },
                    };
                    state.open.set(state.open.get() - 1);
                })
                .detach();
            }
        })
        .detach();
        proxy
    }

    /// The next connections have these faults.
    pub(crate) fn inject(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.faults.borrow_mut().extend(faults);
    }

    /// How many faults have not happened yet.
    pub(crate) fn left(&self) -> usize {
        self.state.faults.borrow().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.get()
    }

    pub(crate) fn max_open(&self) -> usize {
        self.state.max_open.get()
    }
}

impl State {
    async fn serve(&self, client: impl AsyncRead + AsyncWrite, behind: u16) -> io::Result<()> {
        let fault = self.faults.borrow_mut().pop_front();
        let (mut from_client, mut to_client) = split(client);
        match fault {
            Some(Fault::Silence) => {
                sleep(Duration::from_secs(600)).await;
                return Ok(());
            }
            Some(Fault::Say(text)) => {
                let mut request = [0; 65536];
                let _ = from_client.read(&mut request).await?;
                to_client.write_all(text.as_bytes()).await?;
                return to_client.shutdown().await;
            }
            _ => {}
        }
        let server = Stream::connect(&Address::Tcp(([127, 0, 0, 1], behind).into())).await?;
        let (mut from_server, mut to_server) = split(server);
        let (in_request, in_response) = match fault {
            Some(Fault::CutRequest(_) | Fault::DamageRequest(_)) => (fault, None),
            Some(Fault::LoseCompletion) => (fault.clone(), fault),
            _ => (None, fault),
        };
        let is_completion = Cell::new(false);
        let request = pass(&mut from_client, &mut to_server, in_request, &is_completion);
        let response = pass(&mut from_server, &mut to_client, in_response, &is_completion);
        // The first one that ends closes both.
        let (mut request, mut response) = (Box::pin(request), Box::pin(response));
        std::future::poll_fn(|context| match request.as_mut().poll(context) {
            std::task::Poll::Pending => response.as_mut().poll(context),
            done => done,
        })
        .await
    }
}

async fn pass(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    fault: Option<Fault>,
    is_completion: &Cell<bool>,
) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    let mut passed = 0;
    loop {
        let size = from.read(&mut buffer).await?;
        let bytes = &mut buffer[..size];
        if size == 0 {
            return to.shutdown().await;
        }
        match &fault {
            Some(Fault::CutResponse(after) | Fault::CutRequest(after))
                if passed + size > *after =>
            {
                to.write_all(&bytes[..after - passed]).await?;
                to.flush().await?;
                return Ok(());
            }
            Some(Fault::DamageResponse(at) | Fault::DamageRequest(at))
                if (passed..passed + size).contains(at) =>
            {
                bytes[at - passed] ^= 1;
            }
            Some(Fault::StallResponse(after)) if passed + size > *after => {
                sleep(Duration::from_secs(600)).await;
            }
            Some(Fault::LoseCompletion) if is_completion.get() => return Ok(()),
            Some(Fault::LoseCompletion) => {
                let text = String::from_utf8_lossy(bytes);
                is_completion.set(text.starts_with("POST ") && text.contains("uploadId="));
            }
            Some(Fault::Replace(old, new)) => {
                let found = bytes.windows(old.len()).position(|it| it == old.as_bytes());
                if let Some(at) = found {
                    bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
                }
            }
            _ => {}
        }
        to.write_all(bytes).await?;
        to.flush().await?;
        passed += size;
    }
}
