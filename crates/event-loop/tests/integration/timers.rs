//! Sleeps, timeouts, many timers.

use std::cell::Cell;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use event_loop::time::{HyperTimer, Sleep, now, sleep, sleep_until, timeout};
use event_loop::{counters, spawn, yield_now};
use hyper::rt::Timer;

use crate::{run, settle};

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

#[test]
fn sleeps_are_not_too_short() {
    event_loop::run(async {
        for number in [0, 1, 5, 17] {
            let start = Instant::now();
            sleep(milliseconds(number)).await;
            assert!(start.elapsed() >= milliseconds(number));
        }
        // A long turn does not shorten a sleep that starts in it.
        let before = now();
        std::thread::sleep(milliseconds(20));
        assert_eq!(now(), before, "the loop's time stands still during a turn");
        let start = Instant::now();
        sleep(milliseconds(10)).await;
        assert!(start.elapsed() >= milliseconds(10));
    })
    .unwrap();
}

#[test]
fn sleeps_complete_in_the_order_of_their_deadlines() {
    let order = Rc::new(std::cell::RefCell::new(Vec::new()));
    run(async {
        let start = Instant::now();
        let tasks: Vec<_> = [30, 10, 20, 5]
            .into_iter()
            .map(|number| {
                let order = Rc::clone(&order);
                spawn(async move {
                    sleep_until(start + milliseconds(number)).await;
                    order.borrow_mut().push(number);
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
    });
    assert_eq!(*order.borrow(), [5, 10, 20, 30]);
}

#[test]
fn ten_thousand_sleepers_are_cheap() {
    event_loop::run(async {
        for _ in 0..10_000 {
            spawn(sleep(Duration::from_secs(3600))).detach();
        }
        yield_now().await;
        sleep(milliseconds(1)).await;
        let before = counters();
        assert_eq!(before.timers_set, 10_001);
        let start = Instant::now();
        for _ in 0..50 {
            sleep(milliseconds(1)).await;
        }
        let after = counters();
        // Only tasks whose timers are due are polled.
        assert_eq!(after.polls - before.polls, 50);
        assert!(after.turns - before.turns <= 110, "{after:?}");
        assert!(start.elapsed() < milliseconds(1000));
    })
    .unwrap();
}

#[test]
fn a_dropped_sleep_wakes_nothing() {
    event_loop::run(async {
        let polls = Rc::new(Cell::new(0));
        let task = spawn({
            let polls = Rc::clone(&polls);
            async move {
                let mut rest = Box::pin(pending::<()>());
                let mut short = Some(Box::pin(sleep(milliseconds(5))));
                poll_fn(|context| {
                    polls.set(polls.get() + 1);
                    if let Some(mut short) = short.take() {
                        assert!(short.as_mut().poll(context).is_pending());
                    }
                    rest.as_mut().poll(context)
                })
                .await;
            }
        });
        sleep(milliseconds(20)).await;
        assert_eq!(polls.get(), 1);
        assert_eq!(counters().timers_fired, 1, "only ours");
        drop(task);
    })
    .unwrap();
}

#[test]
fn without_timers_the_clock_is_not_read() {
    event_loop::run(async {
        for _ in 0..500 {
            yield_now().await;
        }
    })
    .unwrap();
    assert_eq!(counters().clock_reads, 0);
    assert!(counters().turns > 3);
}

#[test]
fn a_deadline_can_be_moved_both_ways() {
    run(async {
        let start = Instant::now();
        let mut earlier = sleep(Duration::from_secs(3600));
        let mut later = sleep(milliseconds(1));
        poll_fn(|context| {
            assert!(Pin::new(&mut earlier).poll(context).is_pending());
            assert!(Pin::new(&mut later).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        earlier.reset(start + milliseconds(10));
        later.reset(start + milliseconds(30));
        earlier.await;
        assert!(start.elapsed() >= milliseconds(10));
        assert!(start.elapsed() < milliseconds(3000));
        later.await;
        assert!(start.elapsed() >= milliseconds(30));
    });
}

#[test]
fn a_sleep_can_be_reset_after_it_has_completed() {
    run(async {
        let mut again = sleep(milliseconds(1));
        (&mut again).await;
        assert!(again.is_elapsed());
        let start = Instant::now();
        again.reset(start + milliseconds(10));
        assert!(!again.is_elapsed());
        (&mut again).await;
        assert!(start.elapsed() >= milliseconds(10));
    });
}

#[test]
fn a_sleep_moves_between_tasks() {
    run(async {
        let mut traveller = sleep(milliseconds(20));
        poll_fn(|context| {
            assert!(Pin::new(&mut traveller).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        // Must wake the new owner, not us.
        spawn(traveller).await;
    });
}

#[test]
fn timeouts() {
    run(async {
        assert_eq!(timeout(milliseconds(1000), async { 5 }).await, Ok(5));
        let elapsed = timeout(milliseconds(5), pending::<()>()).await.unwrap_err();
        assert_eq!(elapsed.to_string(), "deadline has elapsed");
        assert_eq!(std::io::Error::from(elapsed).kind(), std::io::ErrorKind::TimedOut);
        // A future that completes at once wins over a timeout of zero.
        assert_eq!(timeout(Duration::ZERO, async { 6 }).await, Ok(6));
        assert_eq!(timeout(Duration::MAX, async { 7 }).await, Ok(7));

        let start = Instant::now();
        let mut moved = pin!(timeout(milliseconds(1), pending::<()>()));
        moved.as_mut().reset(start + milliseconds(20));
        assert!(moved.await.is_err());
        assert!(start.elapsed() >= milliseconds(20));
    });
}

#[test]
fn hyper_sleeps_too() {
    run(async {
        let start = Instant::now();
        let mut sleeping = HyperTimer.sleep(Duration::from_secs(3600));
        HyperTimer.reset(&mut sleeping, start + milliseconds(10));
        sleeping.await;
        assert!(start.elapsed() >= milliseconds(10));
        HyperTimer.sleep_until(start).await;
        assert!(HyperTimer.now() >= start + milliseconds(10));
    });
}

#[test]
fn a_sleep_of_an_ended_loop_continues_in_the_next() {
    let mut sleeping: Sleep = event_loop::run(async {
        let mut sleeping = sleep(milliseconds(30));
        poll_fn(|context| {
            assert!(Pin::new(&mut sleeping).poll(context).is_pending());
            Poll::Ready(())
        })
        .await;
        sleeping
    })
    .unwrap();
    run(async {
        (&mut sleeping).await;
        settle().await;
    });
    assert!(sleeping.is_elapsed());
}
