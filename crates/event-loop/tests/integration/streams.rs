//! Streams: when which system call is made, by the loop's counters.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read, Write};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use event_loop::net::{Address, Listener, Stream};
use event_loop::time::sleep;
use event_loop::{Counters, counters, spawn, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{run, settle};

/// A stream of the loop and its peer, which the test uses directly.
fn pair() -> (Stream, UnixStream) {
    let (ours, other) = UnixStream::pair().unwrap();
    (Stream::from_fd(ours.into()).unwrap(), other)
}

async fn read(stream: &mut Stream) -> io::Result<Vec<u8>> {
    let mut buffer = BytesMut::with_capacity(1000);
    poll_fn(|context| stream.poll_read_into(context, &mut buffer)).await?;
    Ok(buffer.to_vec())
}

/// Returns what was counted since `before`: (reads, blocked reads, registrations, modifications).
fn since(before: Counters) -> (u64, u64, u64, u64) {
    let now = counters();
    (
        now.reads - before.reads,
        now.blocked_reads - before.blocked_reads,
        now.registrations - before.registrations,
        now.modifications - before.modifications,
    )
}

#[test]
fn a_whole_request_is_served_without_the_poll_set() {
    for address in ["tcp:127.0.0.1:0", "unix"] {
        let folder = tempfile::tempdir().unwrap();
        let address = match address {
            "unix" => Address::Unix(folder.path().join("socket")),
            tcp => tcp.parse().unwrap(),
        };
        run(async {
            let mut listener = Listener::bind(&address).unwrap();
            let address = listener.local_address().unwrap();
            let accepting = spawn(async move { listener.accept().await.unwrap() });
            yield_now().await;
            // The client uses std's sockets, which are not counted.
            let mut client: Box<dyn ReadWrite> = match &address {
                Address::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
                Address::Tcp(address) => Box::new(std::net::TcpStream::connect(address).unwrap()),
            };
            client.write_all(b"request").unwrap();
            let (mut stream, peer) = accepting.await;
            assert_eq!(peer.is_some(), matches!(address, Address::Tcp(_)));
            assert_eq!(read(&mut stream).await.unwrap(), b"request");
            stream.write_all(b"answer").await.unwrap();
            drop(stream);
            let mut response = String::new();
            client.read_to_string(&mut response).unwrap();
            assert_eq!(response, "answer");

            let counters = counters();
            assert_eq!(counters.registrations, 1, "the listener's alone: {counters:?}");
            assert_eq!((counters.accepts, counters.empty_accepts), (1, 0), "{counters:?}");
            assert_eq!((counters.reads, counters.blocked_reads), (1, 0), "{counters:?}");
            assert_eq!((counters.writes, counters.blocked_writes), (1, 0), "{counters:?}");
        });
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

#[test]
fn after_a_short_read_no_read_is_wasted() {
    run(async {
        let (mut stream, mut other) = pair();
        other.write_all(b"one").unwrap();
        let before = counters();
        assert_eq!(read(&mut stream).await.unwrap(), b"one");
        assert_eq!(since(before), (1, 0, 0, 0), "not in the poll set yet");

        for text in [&b"two"[..], b"three", b"four"] {
            let waiting = spawn(async move {
                let text = read(&mut stream).await.unwrap();
                (stream, text)
            });
            settle().await;
            other.write_all(text).unwrap();
            let received;
            (stream, received) = waiting.await;
            assert_eq!(received, text);
        }
        assert_eq!(since(before), (4, 0, 1, 0), "one registration, one read each");
    });
}

#[test]
fn a_read_that_fills_the_buffer_is_followed_by_another() {
    run(async {
        let (mut stream, mut other) = pair();
        other.write_all(b"123456").unwrap();
        let mut three = [0; 3];
        let before = counters();
        stream.read_exact(&mut three).await.unwrap();
        stream.read_exact(&mut three).await.unwrap();
        assert_eq!(&three, b"456");
        assert_eq!(since(before), (2, 0, 0, 0));
        let waiting = spawn(async move { read(&mut stream).await.unwrap() });
        settle().await;
        // The stream cannot know that nothing is left.
        assert_eq!(since(before), (3, 1, 1, 0));
        other.write_all(b"7").unwrap();
        assert_eq!(waiting.await, b"7");
    });
}

#[test]
fn the_end_after_a_short_read_is_found() {
    run(async {
        // The last bytes and the end in one event.
        let (mut stream, mut other) = pair();
        let waiting = spawn(async move {
            assert_eq!(read(&mut stream).await.unwrap(), b"last words");
            assert_eq!(read(&mut stream).await.unwrap(), b"");
            assert_eq!(read(&mut stream).await.unwrap(), b"", "and again");
        });
        settle().await;
        other.write_all(b"last words").unwrap();
        drop(other);
        waiting.await;

        // The same for a stream that is not registered.
        let (mut stream, mut other) = pair();
        other.write_all(b"last words").unwrap();
        drop(other);
        assert_eq!(read(&mut stream).await.unwrap(), b"last words");
        assert_eq!(read(&mut stream).await.unwrap(), b"");

        // The end comes after the short read.
        let (mut stream, mut other) = pair();
        other.write_all(b"last words").unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b"last words");
        let waiting = spawn(async move { read(&mut stream).await.unwrap() });
        settle().await;
        drop(other);
        assert_eq!(waiting.await, b"");
    });
}

#[test]
fn a_connection_reset_is_an_error_for_a_waiting_reader() {
    run(async {
        let (mut stream, mut other) = pair();
        stream.write_all(b"never read").await.unwrap();
        let waiting = spawn(async move {
            let read = read(&mut stream).await.unwrap_err();
            let write = stream.write_all(b"?").await.unwrap_err();
            (read.kind(), write.kind())
        });
        settle().await;
        other.write_all(b"").unwrap();
        drop(other);
        let (read, write) = waiting.await;
        assert_eq!(read, io::ErrorKind::ConnectionReset);
        assert_eq!(write, io::ErrorKind::BrokenPipe);
    });
}

#[test]
fn write_readiness_is_only_watched_while_needed() {
    run(async {
        let (mut stream, mut other) = pair();
        other.set_nonblocking(true).unwrap();
        let sent = vec![7; 3_000_000];
        let writing = spawn({
            let sent = sent.clone();
            async move {
                stream.write_all(&sent).await.unwrap();
                stream
            }
        });
        settle().await;
        assert!(!writing.is_finished(), "the socket is full");
        assert_eq!(counters().registrations, 1, "for reading and writing at once");
        let mut received = Vec::new();
        while received.len() < sent.len() {
            let mut some = [0; 50_000];
            match other.read(&mut some) {
                Ok(count) => received.extend_from_slice(&some[..count]),
                Err(_) => yield_now().await,
            }
            yield_now().await;
        }
        let mut stream = writing.await;
        assert!(received == sent);
        settle().await;
        assert_eq!(counters().modifications, 1, "taken back, and not asked for in between");

        // From now on, the peer's reads wake nothing.
        let before = counters();
        for _ in 0..20 {
            stream.write_all(&[1; 100]).await.unwrap();
            other.read_exact(&mut [0; 100]).unwrap();
            yield_now().await;
            sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(counters().events, before.events, "{:?}", counters());
        assert_eq!(counters().modifications, 1);
        drop(other);
    });
}

#[test]
fn large_transfers_in_both_directions_over_unix_and_tcp() {
    const SIZE: usize = 5_000_000;
    async fn transfer(near: Stream, far: Stream) {
        async fn side(stream: Stream, seed: u8) {
            let (mut reader, mut writer) = tokio::io::split(stream);
            let writing = spawn(async move {
                let sent: Vec<u8> = (0..SIZE).map(|at| (at as u8).wrapping_mul(seed)).collect();
                writer.write_all(&sent).await.unwrap();
                writer.shutdown().await.unwrap();
            });
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            assert_eq!(received.len(), SIZE);
            let other = 8 - seed;
            assert!(
                received
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| *byte == (at as u8).wrapping_mul(other))
            );
            writing.await;
        }
        let (one, two) = (spawn(side(near, 3)), spawn(side(far, 5)));
        one.await;
        two.await;
    }
    run(async {
        let (near, far) = Stream::pair().unwrap();
        transfer(near, far).await;
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_address().unwrap();
        let near = Stream::connect(&address).await.unwrap();
        assert_eq!(near.peer_address().unwrap(), address);
        let (far, peer) = listener.accept().await.unwrap();
        assert_eq!(Address::from(peer.unwrap()), near.local_address().unwrap());
        transfer(near, far).await;
    });
}

#[test]
fn vectored_writes() {
    run(async {
        let (mut stream, mut other) = pair();
        let parts: Vec<String> = (0..3000).map(|number| format!("{number},")).collect();
        let whole = parts.concat();
        let mut sent = 0;
        while sent < whole.len() {
            let rest = &whole.as_bytes()[sent..];
            let slices: Vec<_> = rest.chunks(7).map(IoSlice::new).collect();
            sent += poll_fn(|context| stream.poll_write_vectored(context, &slices)).await.unwrap();
        }
        // More slices than the system accepts at once do not mean that the socket is full.
        assert_eq!(counters().registrations, 0);
        drop(stream);
        let mut received = String::new();
        other.read_to_string(&mut received).unwrap();
        assert_eq!(received, whole);
    });
}

#[test]
fn a_full_buffer_is_not_the_end_of_the_stream() {
    run(async {
        let (mut stream, _other) = pair();
        let mut buffer = BytesMut::new();
        let error =
            poll_fn(|context| stream.poll_read_into(context, &mut buffer)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_dropped_stream_is_deregistered_and_its_row_is_reused_clean() {
    run(async {
        for round in 0..10 {
            let (mut stream, mut other) = pair();
            let waiting = spawn(async move { read(&mut stream).await.unwrap() });
            settle().await;
            // Readable now; the event is returned by the wait after the cancellation.
            other.write_all(b"too late").unwrap();
            drop(waiting);
            let (mut stream, _quiet) = pair();
            let successor = spawn(async move { read(&mut stream).await.unwrap() });
            settle().await;
            assert!(!successor.is_finished(), "round {round}: it has got its predecessor's event");
        }
        let counters = counters();
        assert_eq!(counters.registrations, counters.deregistrations);
        assert_eq!(counters.blocked_reads, 20, "one for each stream: {counters:?}");
    });
}

#[test]
fn a_stream_moves_between_tasks_and_loops() {
    let (stream, mut other) = run(async {
        let (mut stream, other) = pair();
        poll_fn(|context| {
            let mut buffer = BytesMut::with_capacity(10);
            assert!(stream.poll_read_into(context, &mut buffer).is_pending());
            Poll::Ready(())
        })
        .await;
        (stream, other)
    });
    run(async {
        let mut stream = stream;
        let waiting = spawn(async move { read(&mut stream).await.unwrap() });
        settle().await;
        other.write_all(b"hello again").unwrap();
        assert_eq!(waiting.await, b"hello again");
    });
}

#[test]
fn without_a_loop_waiting_is_an_error_and_reading_is_not() {
    let (mut stream, mut other) = pair();
    other.write_all(b"here").unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut buffer = BytesMut::with_capacity(10);
    assert!(matches!(stream.poll_read_into(&mut context, &mut buffer), Poll::Ready(Ok(4))));
    match stream.poll_read_into(&mut context, &mut buffer) {
        Poll::Ready(Err(error)) => assert!(error.to_string().contains("event_loop::run")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_is_reported_without_reading() {
    run(async {
        let (mut stream, mut other) = pair();
        other.write_all(b"not read").unwrap();
        let mut closed = std::pin::pin!(poll_fn(|context| stream.poll_read_closed(context)));
        assert!(poll_fn(|context| Poll::Ready(closed.as_mut().poll(context).is_pending())).await);
        settle().await;
        assert!(poll_fn(|context| Poll::Ready(closed.as_mut().poll(context).is_pending())).await);
        drop(other);
        closed.await.unwrap();
        assert_eq!(
            read(&mut stream).await.unwrap(),
            b"not read",
            "what came before is still there"
        );
        assert_eq!(read(&mut stream).await.unwrap(), b"");
    });
}

#[test]
fn read_now_sees_what_no_event_has_reported() {
    run(async {
        let (mut stream, mut other) = pair();
        other.write_all(b"one").unwrap();
        assert_eq!(read(&mut stream).await.unwrap(), b"one");
        let mut buffer = BytesMut::with_capacity(100);
        let nothing = stream.read_now(&mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        other.write_all(b"two").unwrap();
        assert_eq!(stream.read_now(&mut buffer).unwrap(), 3);
        assert_eq!(buffer, "two");
    });
}
