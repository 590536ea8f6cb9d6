//! The loop inside a tokio runtime, with timers and sockets of both in one task.

use std::time::{Duration, Instant};

use event_loop::net::{Address, Listener, Stream};
use event_loop::{counters, run_in_this_tokio, run_in_tokio, spawn, time, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::in_time;

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn sleeps_of_both_kinds_in_one_task() {
    let elapsed = run_in_tokio(in_time(async {
        let start = Instant::now();
        let task = spawn(async {
            tokio::time::sleep(milliseconds(10)).await;
            time::sleep(milliseconds(10)).await;
            tokio::time::sleep(milliseconds(10)).await;
        });
        time::sleep(milliseconds(5)).await;
        tokio::time::sleep(milliseconds(5)).await;
        task.await;
        start.elapsed()
    }))
    .unwrap();
    assert!(elapsed >= milliseconds(30), "{elapsed:?}");
    assert!(elapsed < milliseconds(500), "{elapsed:?}");
}

#[test]
fn a_server_of_this_loop_with_a_client_of_tokio() {
    run_in_tokio(in_time(async {
        let mut listener = Listener::bind(&"tcp:127.0.0.1:0".parse().unwrap()).unwrap();
        let Address::Tcp(address) = listener.local_address().unwrap() else { unreachable!() };
        let serving = spawn(async move {
            for _ in 0..200 {
                let (mut stream, _) = listener.accept().await.unwrap();
                spawn(async move {
                    let mut text = String::new();
                    stream.read_to_string(&mut text).await.unwrap();
                    stream.write_all(text.as_bytes()).await.unwrap();
                })
                .detach();
            }
        });
        let mut clients = Vec::new();
        for number in 0..200 {
            // Half of them are tokio tasks, half ours.
            let client = async move {
                let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
                let text = format!("client {number}").repeat(1000);
                client.write_all(text.as_bytes()).await.unwrap();
                client.shutdown().await.unwrap();
                let mut response = String::new();
                client.read_to_string(&mut response).await.unwrap();
                assert_eq!(response, text);
            };
            if number % 2 == 0 {
                let client = tokio::spawn(client);
                clients.push(spawn(async move { client.await.unwrap() }));
            } else {
                clients.push(spawn(client));
            }
        }
        for client in clients {
            client.await;
        }
        serving.await;
    }))
    .unwrap();
}

#[test]
fn tokio_tasks_use_this_loop() {
    run_in_tokio(in_time(async {
        let (mut near, mut far) = Stream::pair().unwrap();
        let one = tokio::spawn(async move {
            time::sleep(milliseconds(5)).await;
            far.write_all(b"from tokio").await.unwrap();
            let spawned = spawn(async { 5 });
            spawned.await
        });
        let mut text = [0; 10];
        near.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"from tokio");
        assert_eq!(one.await.unwrap(), 5);
    }))
    .unwrap();
}

#[test]
fn an_idle_hosted_loop_sleeps() {
    run_in_tokio(async {
        // Without the timeout of `in_time`, so that only tokio's timer wakes the loop.
        tokio::time::sleep(milliseconds(100)).await;
        assert!(counters().turns < 10, "{:?}", counters());
        // A task spawned outside a turn wakes the host, and an earlier timer changes its alarm.
        let late = spawn(time::sleep(Duration::from_secs(3600)));
        yield_now().await;
        let start = Instant::now();
        tokio::spawn(async {
            tokio::time::sleep(milliseconds(5)).await;
            spawn(time::sleep(milliseconds(5))).await;
        })
        .await
        .unwrap();
        assert!(start.elapsed() < milliseconds(500));
        drop(late);
    })
    .unwrap();
}

#[test]
fn a_busy_hosted_loop_does_not_starve_tokio_or_itself() {
    run_in_tokio(in_time(async {
        spawn(async {
            loop {
                yield_now().await;
            }
        })
        .detach();
        let ticking = tokio::spawn(async {
            for _ in 0..5 {
                tokio::time::sleep(milliseconds(2)).await;
            }
        });
        time::sleep(milliseconds(10)).await;
        ticking.await.unwrap();
    }))
    .unwrap();
}

#[test]
fn foreign_wakes_and_panics() {
    run_in_tokio(in_time(async {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            std::thread::sleep(milliseconds(10));
            sender.send(7).unwrap();
        });
        assert_eq!(spawn(receiver).await.unwrap(), 7);
        assert_eq!(counters().foreign_wakes, 1);
        let panic = spawn(async { panic!("inside tokio") }).outcome().await.unwrap_err();
        assert_eq!(panic.message(), "inside tokio");
    }))
    .unwrap();
    // The thread is free for another.
    assert_eq!(event_loop::run(async { 1 }).unwrap(), 1);
}

#[test]
fn pending_connections_are_accepted_without_further_arrivals() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    run_in_tokio(in_time(async {
        let mut listener = Listener::bind(&Address::Unix(path.clone())).unwrap();
        let clients: Vec<_> =
            (0..100).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect();
        for _ in 0..100 {
            listener.accept().await.unwrap();
            tokio::task::yield_now().await;
        }
        drop(clients);
    }))
    .unwrap();
}

#[test]
fn the_loop_runs_in_a_runtime_that_is_there() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(async {
        let before = tokio::spawn(async {
            tokio::time::sleep(milliseconds(5)).await;
            1
        });
        let in_loop = run_in_this_tokio(in_time(async {
            let one = before.await.unwrap();
            let two = spawn(async {
                time::sleep(milliseconds(5)).await;
                tokio::time::sleep(milliseconds(5)).await;
                2
            });
            one + two.await
        }));
        in_loop.await.unwrap() + tokio::spawn(async { 3 }).await.unwrap()
    });
    assert_eq!(done, 6);
    // Another loop may follow.
    assert_eq!(runtime.block_on(run_in_this_tokio(async { 4 })).unwrap(), 4);
}

#[test]
fn a_runtime_with_threads_or_none_is_refused() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    let refused = runtime.block_on(run_in_this_tokio(async {})).unwrap_err();
    assert!(refused.to_string().contains("flavor = \"current_thread\""), "{refused}");
    let refused =
        event_loop::run(async { run_in_this_tokio(async {}).await }).unwrap().unwrap_err();
    assert!(refused.to_string().contains("no reactor running"), "{refused}");
}
