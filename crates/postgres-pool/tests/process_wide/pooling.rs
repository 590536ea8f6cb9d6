//! Who gets a connection, when there are none, and what happens to those that are given back.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::common::*;

pub(crate) fn connections_are_reused() {
    let server = Server::start();
    run(async {
        let pool = pool(&server.url());
        let connection = pool.connection().await.unwrap();
        let first = process_of(&connection).await;
        connection.release();
        let connection = pool.connection().await.unwrap();
        assert_eq!(process_of(&connection).await, first);
        // An error of a statement is no reason not to.
        connection.execute("SELECT nonsense", &[]).await.unwrap_err();
        connection.release();
        let connection = pool.connection().await.unwrap();
        assert_eq!(process_of(&connection).await, first);
        // A drop closes it. Nothing is in flight, so nothing is cancelled.
        drop(connection);
        let connection = pool.connection().await.unwrap();
        assert_ne!(process_of(&connection).await, first);
        until(&server, CONNECTIONS, "1").await;
        drop((connection, pool));
        until(&server, CONNECTIONS, "0").await;
        assert!(!server.log().contains("cancel"), "{}", server.log());
    });
}

pub(crate) fn callers_wait_in_order() {
    let server = Server::start();
    run(async {
        let pool = pool_with(&server.url(), |settings| settings.max = 2);
        for some_close in [false, true] {
            let held = [pool.connection().await.unwrap(), pool.connection().await.unwrap()];
            let order = Rc::new(RefCell::new(Vec::new()));
            let callers: Vec<_> = (0..20)
                .map(|caller| {
                    let (pool, order) = (pool.clone(), Rc::clone(&order));
                    spawn(async move {
                        let connection = pool.connection().await.unwrap();
                        order.borrow_mut().push(caller);
                        let count: i32 = value(&connection, CONNECTIONS).await.parse().unwrap();
                        assert!(count <= 2, "{count} connections");
                        if !some_close || caller % 3 > 0 {
                            connection.release();
                        }
                    })
                })
                .collect();
            sleep(milliseconds(20)).await;
            assert_eq!(order.borrow().len(), 0);
            held.into_iter().for_each(PooledConnection::release);
            for caller in callers {
                caller.await;
            }
            let mut order = order.take();
            if some_close {
                // Who has to connect first is overtaken.
                order.sort_unstable();
            }
            assert_eq!(order, (0..20).collect::<Vec<_>>());
        }
    });
}

pub(crate) fn waiting_has_limits() {
    let server = Server::start();
    run(async {
        let pool = pool_with(&server.url(), |settings| {
            (settings.max, settings.max_waiting) = (1, 1);
            settings.wait = milliseconds(50);
        });
        let held = pool.connection().await.unwrap();
        let waiting = spawn({
            let pool = pool.clone();
            async move { failure(&pool).await }
        });
        event_loop::yield_now().await;
        assert_eq!(failure(&pool).await, PoolError::Busy { max: 1 });
        assert_eq!(waiting.await, PoolError::StillBusy { max: 1, waited: milliseconds(50) });
        // The place is free again.
        assert!(matches!(failure(&pool).await, PoolError::StillBusy { .. }));
        held.release();
        pool.connection().await.unwrap().release();
    });
}

pub(crate) fn callers_that_go_leave_nothing() {
    let server = Server::start();
    run(async {
        let pool = pool_with(&server.url(), |settings| {
            (settings.max, settings.max_waiting) = (2, 10);
        });
        for round in 0..100 {
            let callers: Vec<_> = (0..10)
                .map(|_| {
                    let pool = pool.clone();
                    spawn(async move {
                        let connection = pool.connection().await.unwrap();
                        let _ = connection.execute("SELECT pg_sleep(0.001)", &[]).await;
                        connection.release();
                    })
                })
                .collect();
            sleep(Duration::from_micros(round * 37)).await;
            drop(callers);
        }
        let both = [pool.connection().await.unwrap(), pool.connection().await.unwrap()];
        until(&server, CONNECTIONS, "2").await;
        both.into_iter().for_each(PooledConnection::release);
    });
}

pub(crate) fn idle_connections_are_closed() {
    let server = Server::start();
    run(async {
        let pool = pool_with(&server.url(), |settings| settings.idle = milliseconds(200));
        for _ in 0..2 {
            let (one, other) = (pool.connection().await.unwrap(), pool.connection().await.unwrap());
            one.release();
            other.release();
            assert_eq!(server.psql(CONNECTIONS), "2");
            until(&server, CONNECTIONS, "0").await;
        }
        assert!(!server.log().contains("unexpected EOF"), "{}", server.log());
    });
}

pub(crate) fn a_restarted_server() {
    let mut server = Server::start();
    run(async {
        let pool = pool(&server.url());
        for how in [Shutdown::Fast, Shutdown::Immediate] {
            let (one, other) = (pool.connection().await.unwrap(), pool.connection().await.unwrap());
            one.release();
            other.release();
            server.stop(how);
            server.start_again();
            // The loop has a turn in which it learns that they are closed.
            sleep(milliseconds(1)).await;
            let connection = pool.connection().await.unwrap();
            assert_eq!(value(&connection, "SELECT 1").await, "1");
            connection.release();
        }

        server.stop(Shutdown::Fast);
        sleep(milliseconds(1)).await;
        let first = failure(&pool).await;
        assert!(matches!(first, PoolError::Unreachable { .. }), "{first}");
        let start = Instant::now();
        for _ in 0..1000 {
            assert_eq!(failure(&pool).await, first);
        }
        assert!(start.elapsed() < milliseconds(1000), "{:?}", start.elapsed());
        server.start_again();
        // The longest pause between two attempts.
        sleep(milliseconds(1001)).await;
        let connection = pool.connection().await.unwrap();
        assert_eq!(value(&connection, "SELECT 1").await, "1");
    });
}

pub(crate) fn a_server_restarted_under_load() {
    let mut server = Server::start();
    run(async {
        let pool = pool(&server.url());
        let ended = Rc::new(Cell::new(false));
        // When there was a query, and whether it worked.
        let log = Rc::new(RefCell::new(Vec::new()));
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let (pool, ended, log) = (pool.clone(), Rc::clone(&ended), Rc::clone(&log));
                spawn(async move {
                    while !ended.get() {
                        let works = match pool.connection().await {
                            Ok(connection) => {
                                let works = connection.query("SELECT 1", &[]).await.is_ok();
                                connection.release();
                                works
                            }
                            Err(_) => false,
                        };
                        log.borrow_mut().push((Instant::now(), works));
                        sleep(milliseconds(1)).await;
                    }
                })
            })
            .collect();
        sleep(milliseconds(200)).await;
        let stopped = Instant::now();
        server.stop(Shutdown::Fast);
        sleep(milliseconds(300)).await;
        server.start_again();
        let started = Instant::now();
        sleep(milliseconds(1500)).await;
        ended.set(true);
        for caller in callers {
            caller.await;
        }
        let log = log.take();
        assert!(log.iter().any(|&(time, works)| time < stopped && works), "it worked before");
        // The longest pause between two attempts, and the time that one takes.
        let up = started + milliseconds(1100);
        let is_up = |time| time < stopped || time > up;
        assert!(log.iter().any(|&(time, works)| time > up && works), "it works afterwards");
        assert!(log.iter().all(|&(time, works)| works || !is_up(time)), "it fails while it is up");
    });
}

pub(crate) fn a_terminated_connection() {
    let server = Server::start();
    run(async {
        let pool = pool(&server.url());
        let connection = pool.connection().await.unwrap();
        let process = process_of(&connection).await;
        let terminate = format!("SELECT pg_terminate_backend({process}, 5000)");
        server.psql(&terminate);
        // While it is held, the caller gets the error, and its release closes it.
        connection.query("SELECT 1", &[]).await.unwrap_err();
        connection.release();
        let connection = pool.connection().await.unwrap();
        let process = process_of(&connection).await;
        connection.release();
        // While it is idle, nobody gets one.
        server.psql(&format!("SELECT pg_terminate_backend({process}, 5000)"));
        sleep(milliseconds(1)).await;
        let connection = pool.connection().await.unwrap();
        assert_ne!(process_of(&connection).await, process);
    });
}

/// The kernel of such a server goes on acknowledging, and it cannot end a slow statement itself.
pub(crate) fn a_server_that_is_stopped() {
    let server = Server::start();
    let signal = |signal: &str, process: &str| {
        let sent = std::process::Command::new("kill").args([signal, process]).status();
        assert!(sent.unwrap().success());
    };
    run(async {
        let pool = pool_with(&server.url(), |settings| {
            settings.statement_timeout = milliseconds(500);
        });
        let connection = pool.connection().await.unwrap();
        let process = process_of(&connection).await;
        // One that has nothing to say is waited for.
        sleep(Duration::from_secs(6)).await;
        assert_eq!(process_of(&connection).await, process);
        signal("-STOP", &process);
        let started = Instant::now();
        let error = connection.query("SELECT 1", &[]).await.unwrap_err();
        assert!(error.is_closed(), "{error:?}");
        assert!(started.elapsed() >= milliseconds(5500), "{:?}", started.elapsed());
        signal("-CONT", &process);
        drop(connection);
        let connection = pool.connection().await.unwrap();
        assert_ne!(process_of(&connection).await, process);
    });
}
