//! Forked children: their own connections, or those of the loop that they continue.

use case_runner::{itself, run_case};
use process::draining_child::{self, Forked};
use process::{Limits, compute, reexec};

use super::common::*;

pub(crate) fn a_fresh_child_has_its_own_connection() {
    let server = Server::start();
    run(async {
        let pool = pool(&server.url());
        let idle = pool.connection().await.unwrap();
        let held = pool.connection().await.unwrap();
        let ours = [process_of(&idle).await, process_of(&held).await];
        idle.release();
        let in_child = || {
            let mut theirs = String::new();
            run(async {
                let connection = pool.connection().await.unwrap();
                theirs = process_of(&connection).await;
                connection.release();
                // It has been closed here, and is the parent's.
                let connection = pool.connection().await.unwrap();
                assert_eq!(process_of(&connection).await, theirs);
            });
            theirs.into_bytes()
        };
        let theirs = compute(Limits::DEFAULT, in_child).await.unwrap();
        assert!(!ours.contains(&String::from_utf8(theirs).unwrap()));
        assert_eq!(process_of(&held).await, ours[1]);
        // What a child drops is still there.
        let mut held = Some(held);
        let drops = || {
            run(async { drop(held.take()) });
            Vec::new()
        };
        compute(Limits::DEFAULT, drops).await.unwrap();
        let held = held.unwrap();
        assert_eq!(process_of(&held).await, ours[1]);
        held.release();
        let again = [pool.connection().await.unwrap(), pool.connection().await.unwrap()];
        assert_eq!([process_of(&again[1]).await, process_of(&again[0]).await], ours);
    });
}

/// tokio-postgres draws them from this generator.
pub(crate) fn children_draw_their_own_nonces() {
    let server = Server::start();
    run(async {
        let pool = pool(&server.tcp_url());
        pool.connection().await.unwrap().release();
        let draw = || {
            run(async { pool.connection().await.unwrap().release() });
            rand::random::<u128>().to_le_bytes().to_vec()
        };
        let drawn = [
            compute(Limits::DEFAULT, draw).await.unwrap(),
            compute(Limits::DEFAULT, draw).await.unwrap(),
        ];
        assert_ne!(drawn[0], drawn[1]);
    });
}

/// The response to a statement that is in flight arrives in the child, and idle connections are used there.
pub(crate) fn a_draining_child_keeps_its_connections() {
    let server = Server::start();
    let mut helper = itself("draining_helper");
    helper.env(URL, server.url());
    let (status, output) = run_case(helper);
    assert!(status.success(), "{output}");
    assert_eq!(output, "true true\n");
}

const URL: &str = "TEST_URL";

pub(crate) fn draining_helper() {
    if reexec::take_inherited(&[]).is_some() {
        run(async {
            reexec::release_signals();
            process::adopt_inherited().unwrap();
            while process::running_in_background() > 0 {
                sleep(milliseconds(1)).await;
            }
        });
        return;
    }
    run(async {
        let pool = pool(&std::env::var(URL).unwrap());
        let idle = pool.connection().await.unwrap();
        let busy = pool.connection().await.unwrap();
        let processes = [process_of(&idle).await, process_of(&busy).await];
        idle.release();
        let in_flight = spawn(async move {
            value(&busy, "SELECT pg_backend_pid() FROM (SELECT pg_sleep(0.2)) AS slow").await
        });
        sleep(milliseconds(50)).await;
        let image = reexec::Image::of_this_process().unwrap();
        match draining_child::fork().unwrap() {
            Forked::Original(original) => {
                let error = image.exec(&mut reexec::HandoverWords::new(&[]));
                drop(original);
                panic!("{error}");
            }
            Forked::DrainingChild => {
                let response = in_flight.await == processes[1];
                let connection = pool.connection().await.unwrap();
                println!("{response} {}", process_of(&connection).await == processes[0]);
                draining_child::leave(0);
            }
        }
    });
}
