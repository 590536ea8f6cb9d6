//! What the loop's own steps cost on this machine: `cargo run --release -p event-loop --example costs`.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use event_loop::net::Stream;
use event_loop::time::{sleep, sleep_until};
use event_loop::{spawn, spawn_now, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ROUNDS: u32 = 1_000_000;

fn main() -> std::io::Result<()> {
    measure("a task yields and is polled again", ROUNDS, || async {
        for _ in 0..ROUNDS {
            yield_now().await;
        }
    })?;
    measure("spawn, first poll, await", ROUNDS, || async {
        for number in 0..ROUNDS {
            assert_eq!(spawn(async move { number }).await, number);
        }
    })?;
    measure("spawn_now of what is done at once", ROUNDS, || async {
        for _ in 0..ROUNDS {
            spawn_now(async {}).detach();
        }
    })?;
    measure("set and drop a timer among 10,000", ROUNDS, || async {
        for _ in 0..10_000 {
            spawn(sleep(Duration::from_secs(3600))).detach();
        }
        yield_now().await;
        let deadline = Instant::now() + Duration::from_secs(1800);
        for _ in 0..ROUNDS {
            let mut timer = sleep_until(deadline);
            poll_fn(|context| {
                assert!(Pin::new(&mut timer).poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
    })?;
    measure("a byte there and back between two tasks", ROUNDS / 10, || async {
        let (mut near, mut far) = Stream::pair().expect("two sockets");
        spawn(async move {
            let mut byte = [0; 2];
            while far.read(&mut byte).await.is_ok_and(|count| count > 0) {
                far.write_all(&byte[..1]).await.expect("an open socket");
            }
        })
        .detach();
        let mut byte = [0; 2];
        for _ in 0..ROUNDS / 10 {
            near.write_all(b"x").await.expect("an open socket");
            let count = near.read(&mut byte).await.expect("an open socket");
            assert_eq!(count, 1);
        }
    })
}

fn measure<F: Future<Output = ()>>(
    what: &str,
    rounds: u32,
    work: impl FnOnce() -> F,
) -> std::io::Result<()> {
    let start = Instant::now();
    event_loop::run(work())?;
    let each = start.elapsed().as_nanos() / u128::from(rounds);
    println!("{each:>6} ns  {what}");
    Ok(())
}
