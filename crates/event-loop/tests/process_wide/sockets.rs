//! Threads, descriptors and system calls of a process that serves.

use std::fs::File;
use std::future::poll_fn;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::BytesMut;
use case_runner::{CASE, itself, run_case};
use event_loop::net::{Address, Listener, Stream};
use event_loop::signals::{Signal, listen};
use event_loop::time::sleep;
use event_loop::{counters, spawn, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn one_thread() {
    assert_eq!(sys::threads::count().unwrap(), 1);
}

/// Returns how many descriptors this process has open, without the one used for listing.
fn open_count() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

pub(crate) fn there_is_one_thread() {
    event_loop::run(async {
        one_thread();
        let _signals = listen(&[Signal::Terminate]).unwrap();
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                spawn(async move {
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.unwrap();
                    sleep(Duration::from_millis(1)).await;
                    stream.write_all(text.as_bytes()).await.unwrap();
                })
                .detach();
            }
        })
        .detach();
        let clients: Vec<_> = (0..50)
            .map(|_| {
                let address = address.clone();
                spawn(async move {
                    let mut client = Stream::connect(&address).await.unwrap();
                    client.write_all(&[b'x'; 100_000]).await.unwrap();
                    client.shutdown().await.unwrap();
                    let mut text = String::new();
                    client.read_to_string(&mut text).await.unwrap();
                    assert_eq!(text.len(), 100_000);
                    one_thread();
                })
            })
            .collect();
        for client in clients {
            client.await;
        }
    })
    .unwrap();
    one_thread();
    #[cfg(feature = "tokio")]
    {
        event_loop::run_in_tokio(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let client = spawn(async move { tokio::net::TcpStream::connect(address).await });
            listener.accept().await.unwrap();
            client.await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
            sleep(Duration::from_millis(1)).await;
            one_thread();
        })
        .unwrap();
        one_thread();
    }
}

pub(crate) fn too_many_open_files() {
    let mut command = Command::new("sh");
    command.arg("-c").arg("ulimit -n 40; exec \"$0\"").arg(std::env::current_exe().unwrap());
    command.env(CASE, "few_descriptors_helper").stdin(Stdio::null());
    let (status, output) = run_case(command);
    assert!(status.success(), "{output}");
}

pub(crate) fn few_descriptors_helper() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    event_loop::run(async {
        let mut listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let mut clients = Vec::new();
        while let Ok(client) = UnixStream::connect(&path) {
            clients.push(client);
        }
        assert!(clients.len() > 10);
        let error = listener.accept().await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(24), "EMFILE: {error}");
        listener.pause();
        let before = counters();
        sleep(Duration::from_millis(50)).await;
        assert!(counters().turns - before.turns < 4, "the loop ran in circles");
        clients.pop();
        // The same connection, which was not lost.
        listener.accept().await.unwrap();
        assert!(listen(&[Signal::Terminate]).is_ok() || clients.pop().is_some());
    })
    .unwrap();
}

pub(crate) fn a_future_that_never_waits_opens_no_descriptor() {
    let before = open_count();
    event_loop::run(async {
        let task = spawn(async {
            yield_now().await;
            File::open("/dev/null").unwrap()
        });
        drop(task.await);
        assert_eq!(open_count(), before);
        assert_eq!(counters().waits, 0);
        // The poll set and the loop waker.
        sleep(Duration::from_millis(1)).await;
        assert_eq!(open_count(), before + 2);
    })
    .unwrap();
    assert_eq!(open_count(), before);
}

/// Of servers that start at the same time on one path with a stale file, exactly one serves.
pub(crate) fn one_of_many_servers_binds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    for _ in 0..10 {
        drop(UnixListener::bind(&path).unwrap());
        let mut servers: Vec<_> = (0..6)
            .map(|_| {
                let mut server = itself("bind_helper");
                server.env("SOCKET", &path).stdin(Stdio::piped()).stdout(Stdio::piped());
                server.spawn().unwrap()
            })
            .collect();
        let mut bound = 0;
        for server in &mut servers {
            let mut response = [0; 8];
            server.stdout.as_mut().unwrap().read_exact(&mut response).unwrap();
            bound += usize::from(&response == b"bound...");
        }
        assert_eq!(bound, 1);
        UnixStream::connect(&path).unwrap();
        for mut server in servers {
            drop(server.stdin.take());
            assert!(server.wait().unwrap().success());
        }
        assert!(!path.exists());
    }
}

pub(crate) fn bind_helper() {
    let address = Address::Unix(std::env::var_os("SOCKET").unwrap().into());
    let listener = Listener::bind(&address);
    match &listener {
        Ok(_) => print!("bound..."),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => print!("in use.."),
        Err(error) => print!("{error}"),
    }
    std::io::stdout().flush().unwrap();
    // Until all helpers have answered.
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    drop(listener);
}

const REQUESTS: usize = 100;

/// A connection whose request has arrived completely costs accept4, read, write, close, and its share of waits.
pub(crate) fn system_calls_of_a_request() {
    let folder = tempfile::tempdir().unwrap();
    let (path, trace) = (folder.path().join("socket"), folder.path().join("trace"));
    let listener = UnixListener::bind(&path).unwrap();
    let clients: Vec<_> = (0..REQUESTS)
        .map(|_| {
            let mut client = UnixStream::connect(&path).unwrap();
            client.write_all(b"request").unwrap();
            client
        })
        .collect();
    let mut server = Command::new("strace");
    server.arg("-f").arg("-o").arg(&trace).arg(std::env::current_exe().unwrap());
    server.env(CASE, "serve_helper").stdin(OwnedFd::from(listener));
    let (status, output) = run_case(server);
    assert!(status.success(), "{output}");
    for mut client in clients {
        let mut response = String::new();
        client.read_to_string(&mut response).unwrap();
        assert_eq!(response, "answer");
    }
    let trace = std::fs::read_to_string(trace).unwrap();
    // From the start of the loop to the end of the last connection. A line is: pid, name(arguments).
    let calls: Vec<&str> = trace
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1)?.split_once('(').map(|parts| parts.0))
        .skip_while(|name| *name != "eventfd2")
        // And registers it with the poll set.
        .skip(2)
        .collect();
    let last_write = calls.iter().rposition(|name| *name == "write").unwrap();
    let last_close = calls[last_write..].iter().position(|name| *name == "close").unwrap();
    let calls = &calls[..=last_write + last_close];
    let count = |name: &str| calls.iter().filter(|call| call.starts_with(name)).count();
    assert_eq!(count("accept4"), REQUESTS, "{calls:?}");
    assert_eq!(count("read"), REQUESTS, "{calls:?}");
    assert_eq!(count("write"), REQUESTS, "{calls:?}");
    assert_eq!(count("close"), REQUESTS, "{calls:?}");
    assert_eq!(count("epoll_ctl"), 1, "the listener enters the poll set: {calls:?}");
    let looks = count("epoll_wait") + count("epoll_pwait");
    assert!(looks <= 10, "{looks} looks");
    // In debug builds, std checks that a descriptor is open before it closes it.
    let checks = if cfg!(debug_assertions) { REQUESTS } else { 0 };
    assert_eq!(calls.len(), 4 * REQUESTS + 1 + looks + checks, "{calls:?}");
}

pub(crate) fn serve_helper() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut listener = Listener::from_fd(socket).unwrap();
    event_loop::run(async {
        let mut buffer = BytesMut::with_capacity(4096);
        for _ in 0..REQUESTS {
            let (mut stream, _) = listener.accept().await.unwrap();
            buffer.clear();
            poll_fn(|context| stream.poll_read_into(context, &mut buffer)).await.unwrap();
            assert_eq!(&buffer[..], b"request");
            stream.write_all(b"answer").await.unwrap();
        }
    })
    .unwrap();
}
