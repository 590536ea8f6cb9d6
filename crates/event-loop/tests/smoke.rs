//! A server and a client in one loop.
use event_loop::net::{Address, Listener, Stream};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[test]
fn echo() {
    for address in ["tcp:127.0.0.1:0", "unix:/tmp/event-loop-smoke.sock"] {
        event_loop::run(async {
            let mut listener = Listener::bind(&address.parse().unwrap()).unwrap();
            let bound: Address = listener.local_address().unwrap();
            event_loop::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    event_loop::spawn(async move {
                        let mut text = String::new();
                        stream.read_to_string(&mut text).await.unwrap();
                        stream.write_all(text.as_bytes()).await.unwrap();
                    })
                    .detach();
                }
            })
            .detach();
            for size in [10, 1_000_000] {
                let mut client = Stream::connect(&bound).await.unwrap();
                let sent = "x".repeat(size);
                client.write_all(sent.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let mut text = String::new();
                client.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, sent);
            }
            let start = Instant::now();
            event_loop::time::sleep(Duration::from_millis(20)).await;
            assert!(start.elapsed() >= Duration::from_millis(20));
        })
        .unwrap();
        println!("{:?}", event_loop::counters());
    }
}
