//! Listeners: binding, accepting, refusing; and hyper on top.

use std::convert::Infallible;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use event_loop::net::{Address, Listener, Stream};
use event_loop::time::{HyperTimer, sleep, timeout};
use event_loop::{counters, spawn, yield_now};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Request, Response};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{run, settle};

/// A temporary folder and the address of a socket in it.
fn place() -> (TempDir, Address) {
    let folder = tempfile::tempdir().unwrap();
    let address = Address::Unix(folder.path().join("socket"));
    (folder, address)
}

fn path(address: &Address) -> &std::path::Path {
    match address {
        Address::Unix(path) => path,
        Address::Tcp(_) => panic!("no path"),
    }
}

#[test]
fn many_connections_are_accepted_in_batches() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        let clients: Vec<_> =
            (0..100).map(|_| UnixStream::connect(path(&address)).unwrap()).collect();
        let before = counters();
        for _ in 0..100 {
            listener.accept().await.unwrap();
        }
        let after = counters();
        assert_eq!(after.accepts - before.accepts, 100, "none was empty");
        // 1, 2, 4, 8, 16, 32, 32, and the rest.
        assert!(after.waits - before.waits <= 9, "{after:?}");
        drop(clients);
    });
}

#[test]
fn single_connections_are_accepted_without_wasted_accepts() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        let accepting = spawn(async move {
            for _ in 0..500 {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(b"x").await.unwrap();
            }
        });
        for _ in 0..500 {
            let mut client = Stream::connect(&address).await.unwrap();
            client.read_u8().await.unwrap();
        }
        accepting.await;
        assert!(counters().empty_accepts <= 20, "{:?}", counters());
    });
}

#[test]
fn a_listener_without_accepts_does_not_keep_the_loop_awake() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        // Registers with the poll set, then stops waiting.
        let gave_up = timeout(Duration::from_millis(1), listener.accept()).await;
        assert!(gave_up.is_err());
        let mut client = UnixStream::connect(path(&address)).unwrap();
        client.write_all(b"hello").unwrap();
        let before = counters();
        sleep(Duration::from_millis(50)).await;
        let after = counters();
        assert!(after.turns - before.turns <= 4, "{:?} {:?}", before, after);
        // The connection is still accepted later.
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = [0; 5];
        stream.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"hello");
    });
}

#[test]
fn a_paused_listener_is_silent_until_the_next_accept() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        let first = UnixStream::connect(path(&address)).unwrap();
        listener.accept().await.unwrap();
        listener.pause();
        let second = UnixStream::connect(path(&address)).unwrap();
        let before = counters();
        settle().await;
        assert_eq!(counters().events, before.events);
        listener.accept().await.unwrap();
        // Pausing twice, or before the first accept, is allowed.
        listener.pause();
        listener.pause();
        drop((first, second));
    });
}

#[test]
fn stopping_refuses_new_connections_and_keeps_pending_ones() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        let waiting: Vec<_> =
            (0..3).map(|_| UnixStream::connect(path(&address)).unwrap()).collect();
        listener.accept().await.unwrap();
        listener.stop_connects().unwrap();
        let refused = UnixStream::connect(path(&address)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        listener.accept().await.unwrap();
        assert!(listener.accept_waiting().unwrap().is_some());
        assert!(listener.accept_waiting().unwrap().is_none());
        let end = listener.accept().await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::NotConnected);
        drop(waiting);

        // Another process that shares the socket may have stopped it: that is an error, not a busy loop.
        let (_folder, address) = place();
        let shared = UnixListener::bind(path(&address)).unwrap();
        let mut listener = Listener::from_fd(shared.try_clone().unwrap().into()).unwrap();
        let client = UnixStream::connect(path(&address)).unwrap();
        let other = Listener::from_fd(shared.into()).unwrap();
        other.stop_connects().unwrap();
        listener.accept().await.unwrap();
        let end = listener.accept().await.unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::NotConnected);
        drop(client);

        let mut tcp = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(tcp.stop_connects().unwrap_err().kind(), io::ErrorKind::Unsupported);
        assert!(tcp.accept_waiting().unwrap().is_none());
    });
}

#[test]
fn a_unix_socket_is_private_and_removed() {
    let (_folder, address) = place();
    let listener = Listener::bind(&address).unwrap();
    assert_eq!(listener.local_address().unwrap(), address);
    let mode = fs::metadata(path(&address)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(listener);
    assert!(!path(&address).exists());
}

#[test]
fn a_stale_socket_file_is_replaced() {
    let (_folder, address) = place();
    drop(UnixListener::bind(path(&address)).unwrap());
    assert!(path(&address).exists(), "std leaves it behind");
    let listener = Listener::bind(&address).unwrap();
    UnixStream::connect(path(&address)).unwrap();
    drop(listener);
}

#[test]
fn a_second_server_is_refused_and_does_not_affect_the_first() {
    let (_folder, address) = place();
    let listener = Listener::bind(&address).unwrap();
    let before = fs::metadata(path(&address)).unwrap().ino();
    let error = Listener::bind(&address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let message = error.to_string();
    assert!(message.contains("another process listens there"), "{message}");
    assert!(message.contains(&address.to_string()), "{message}");
    assert_eq!(fs::metadata(path(&address)).unwrap().ino(), before);
    UnixStream::connect(path(&address)).unwrap();
    drop(listener);

    let listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
    let error = Listener::bind(&listener.local_address().unwrap()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("tcp:127.0.0.1:"), "{error}");
}

#[test]
fn a_file_that_is_not_a_socket_is_kept() {
    let (_folder, address) = place();
    fs::write(path(&address), "precious").unwrap();
    let error = Listener::bind(&address).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains("not a socket"), "{error}");
    assert_eq!(fs::read_to_string(path(&address)).unwrap(), "precious");
}

#[test]
fn a_file_that_replaced_the_socket_is_not_removed() {
    let (_folder, address) = place();
    let listener = Listener::bind(&address).unwrap();
    fs::remove_file(path(&address)).unwrap();
    let successor = Listener::bind(&address).unwrap();
    drop(listener);
    UnixStream::connect(path(&address)).unwrap();
    drop(successor);
}

#[test]
fn invalid_addresses_are_errors_that_name_the_problem() {
    let long = Address::Unix(format!("/tmp/{}", "x".repeat(200)).into());
    let error = Listener::bind(&long).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains("205 bytes"), "{error}");
    let nowhere = Address::Unix("/no/such/folder/socket".into());
    let error = Listener::bind(&nowhere).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains("/no/such/folder/socket"), "{error}");
}

#[test]
fn inherited_sockets() {
    let (_folder, address) = place();
    let inherited = UnixListener::bind(path(&address)).unwrap();
    run(async {
        let mut listener = Listener::from_fd(inherited.into()).unwrap();
        let client = UnixStream::connect(path(&address)).unwrap();
        listener.accept().await.unwrap();
        drop((listener, client));
    });
    assert!(path(&address).exists(), "not ours to remove");

    let (connected, _other) = UnixStream::pair().unwrap();
    let error = Listener::from_fd(connected.into()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn connecting() {
    let (_folder, address) = place();
    run(async {
        let error = Stream::connect(&address).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let free = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            Address::Tcp(listener.local_addr().unwrap())
        };
        let error = Stream::connect(&free).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);

        let listener = Listener::bind(&"tcp:[::1]:0".parse().unwrap());
        if let Ok(mut listener) = listener {
            let address = listener.local_address().unwrap();
            let stream = Stream::connect(&address).await.unwrap();
            listener.accept().await.unwrap();
            drop(stream);
        }
    });
}

#[test]
fn a_connect_waits_for_room_in_the_backlog() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        // Fill the backlog, whatever the system's limit is.
        let mut clients = Vec::new();
        loop {
            match timeout(Duration::from_millis(30), Stream::connect(&address)).await {
                Ok(client) => clients.push(client.unwrap()),
                Err(_) => break,
            }
            assert!(clients.len() < 5000, "the backlog has no end");
        }
        let connecting = spawn({
            let address = address.clone();
            async move { Stream::connect(&address).await.unwrap() }
        });
        sleep(Duration::from_millis(10)).await;
        assert!(!connecting.is_finished());
        listener.accept().await.unwrap();
        listener.accept().await.unwrap();
        connecting.await;
    });
}

async fn hello(
    request: Request<hyper::body::Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    sleep(Duration::from_millis(1)).await;
    Ok(Response::new(Full::from(format!("you asked for {}", request.uri()))))
}

#[test]
fn hyper_serves_on_this_loop() {
    run(async {
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let serving = hyper::server::conn::http1::Builder::new()
                    .timer(HyperTimer)
                    .header_read_timeout(Duration::from_millis(50))
                    .serve_connection(stream, hyper::service::service_fn(hello));
                spawn(serving).detach();
            }
        })
        .detach();
        let mut client = Stream::connect(&address).await.unwrap();
        for path in ["/one", "/two"] {
            let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
            client.write_all(request.as_bytes()).await.unwrap();
            let mut response = Vec::new();
            while !response.ends_with(path.as_bytes()) {
                assert_ne!(client.read_buf(&mut response).await.unwrap(), 0);
            }
            assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"));
        }
        // hyper's timer closes the connection of a silent client.
        let mut silent = Stream::connect(&address).await.unwrap();
        silent.write_all(b"GET / HT").await.unwrap();
        let mut response = String::new();
        silent.read_to_string(&mut response).await.unwrap();
        assert!(response.is_empty() || response.contains("408"), "{response}");
    });
}

#[test]
fn hundreds_of_connections_in_one_loop() {
    let (_folder, address) = place();
    run(async {
        let mut listener = Listener::bind(&address).unwrap();
        let serving = spawn(async move {
            for _ in 0..400 {
                let (mut stream, _) = listener.accept().await.unwrap();
                spawn(async move {
                    let mut line = [0; 5];
                    stream.read_exact(&mut line).await.unwrap();
                    yield_now().await;
                    stream.write_all(&line).await.unwrap();
                })
                .detach();
            }
        });
        let clients: Vec<_> = (0..400)
            .map(|number| {
                let address = address.clone();
                spawn(async move {
                    let mut client = Stream::connect(&address).await.unwrap();
                    sleep(Duration::from_millis(number % 10)).await;
                    let text = format!("{number:05}");
                    client.write_all(text.as_bytes()).await.unwrap();
                    let mut response = String::new();
                    client.read_to_string(&mut response).await.unwrap();
                    assert_eq!(response, text);
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
        serving.await;
    });
}

#[test]
fn reading_what_a_blocking_client_sends_in_pieces() {
    let (_folder, address) = place();
    let listener = Listener::bind(&address).unwrap();
    let client = std::thread::spawn({
        let path = path(&address).to_owned();
        move || {
            let mut client = UnixStream::connect(path).unwrap();
            for piece in ["a", "bc", "def"] {
                client.write_all(piece.as_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(5));
            }
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).unwrap();
            response
        }
    });
    run(async {
        let mut listener = listener;
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        stream.write_all(text.to_uppercase().as_bytes()).await.unwrap();
    });
    assert_eq!(client.join().unwrap(), "ABCDEF");
}
