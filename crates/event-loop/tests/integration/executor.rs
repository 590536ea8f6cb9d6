//! Tasks: order, cancellation, panics, wakes.

use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use event_loop::net::Stream;
use event_loop::time::sleep;
use event_loop::{Task, counters, spawn, spawn_now, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{run, settle};

/// Counts its drops.
struct Dropped(Rc<Cell<u32>>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn outputs_come_back() {
    let sum = run(async {
        let tasks: Vec<Task<u64>> = (0..100).map(|number| spawn(async move { number })).collect();
        let mut sum = 0;
        for task in tasks {
            sum += task.await;
        }
        sum
    });
    assert_eq!(sum, 4950);
}

#[test]
fn outputs_need_not_be_send() {
    let output = run(async { spawn(async { Rc::new(7) }).await });
    assert_eq!(*output, 7);
}

#[test]
fn tasks_take_turns() {
    let order = Rc::new(RefCell::new(String::new()));
    run(async {
        let write = |letter: char| {
            let order = Rc::clone(&order);
            spawn(async move {
                for _ in 0..3 {
                    order.borrow_mut().push(letter);
                    yield_now().await;
                }
            })
        };
        let tasks = [write('a'), write('b'), write('c')];
        for task in tasks {
            task.await;
        }
    });
    assert_eq!(*order.borrow(), "abcabcabc");
}

#[test]
fn spawn_now_polls_inside_the_caller_and_the_task_continues() {
    run(async {
        let steps = Rc::new(Cell::new(0));
        let task = spawn_now({
            let steps = Rc::clone(&steps);
            async move {
                steps.set(1);
                yield_now().await;
                steps.set(2);
                sleep(Duration::from_millis(1)).await;
                "done"
            }
        });
        assert_eq!(steps.get(), 1);
        assert!(!task.is_finished());
        assert_eq!(task.await, "done");
        assert_eq!(steps.get(), 2);

        let at_once = spawn_now(async { 5 });
        assert!(at_once.is_finished());
        assert_eq!(at_once.await, 5);
    });
}

#[test]
fn dropping_the_handle_drops_the_future_at_once() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let witness = Dropped(Rc::clone(&drops));
        let task = spawn(async move {
            let _witness = witness;
            pending::<()>().await;
        });
        settle().await;
        assert_eq!(drops.get(), 0);
        drop(task);
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn a_task_can_be_cancelled_while_it_is_queued() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let polled = Rc::new(Cell::new(false));
        let witness = Dropped(Rc::clone(&drops));
        let flag = Rc::clone(&polled);
        let task = spawn(async move {
            let _witness = witness;
            flag.set(true);
        });
        drop(task);
        assert_eq!(drops.get(), 1);
        // Reuses the row of the cancelled task while that task's key is in the queue.
        let successor = spawn(async { 1 });
        assert_eq!(successor.await, 1);
        settle().await;
        assert!(!polled.get());
    });
}

#[test]
fn a_task_can_cancel_itself_while_it_runs() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let own_handle = Rc::new(RefCell::new(None));
        let witness = Dropped(Rc::clone(&drops));
        let reached = Rc::new(Cell::new(false));
        let task = spawn({
            let (own_handle, drops, reached) =
                (Rc::clone(&own_handle), Rc::clone(&drops), Rc::clone(&reached));
            async move {
                let _witness = witness;
                let handle: Option<Task<()>> = own_handle.borrow_mut().take();
                drop(handle);
                assert_eq!(drops.get(), 0, "what runs is not pulled from under its feet");
                reached.set(true);
                yield_now().await;
                unreachable!("polled after it was cancelled");
            }
        });
        *own_handle.borrow_mut() = Some(task);
        settle().await;
        assert!(reached.get());
        assert_eq!(drops.get(), 1);
    });
}

#[test]
fn a_task_that_ends_in_the_poll_that_cancels_it_is_forgotten() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let own_handle: Rc<RefCell<Option<Task<Dropped>>>> = Rc::default();
        let witness = Dropped(Rc::clone(&drops));
        let task = spawn({
            let own_handle = Rc::clone(&own_handle);
            async move {
                drop(own_handle.borrow_mut().take());
                witness
            }
        });
        *own_handle.borrow_mut() = Some(task);
        settle().await;
    });
    assert_eq!(drops.get(), 1);
}

/// Cancels a task when dropped, and starts another.
struct Chain {
    victim: Option<Task<()>>,
    drops: Rc<Cell<u32>>,
    starts: u32,
}

impl Drop for Chain {
    fn drop(&mut self) {
        drop(self.victim.take());
        self.drops.set(self.drops.get() + 1);
        if let Some(starts) = self.starts.checked_sub(1) {
            let next = Chain { victim: None, drops: Rc::clone(&self.drops), starts };
            spawn(async move {
                let _next = next;
                pending::<()>().await;
            })
            .detach();
        }
    }
}

#[test]
fn drops_may_cancel_and_spawn() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let mut last: Option<Task<()>> = None;
        for _ in 0..100 {
            let link = Chain { victim: last.take(), drops: Rc::clone(&drops), starts: 0 };
            last = Some(spawn(async move {
                let _link = link;
                pending::<()>().await;
            }));
        }
        settle().await;
        drop(last);
        assert_eq!(drops.get(), 100);
    });
}

#[test]
fn remaining_tasks_are_dropped_with_the_loop_even_if_drops_spawn() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        for _ in 0..10 {
            let link = Chain { victim: None, drops: Rc::clone(&drops), starts: 3 };
            spawn(async move {
                let _link = link;
                pending::<()>().await;
            })
            .detach();
        }
    });
    assert_eq!(drops.get(), 40);
}

#[test]
fn a_detached_task_runs_to_completion() {
    let drops = Rc::new(Cell::new(0));
    run(async {
        let witness = Dropped(Rc::clone(&drops));
        spawn(async move {
            sleep(Duration::from_millis(2)).await;
            witness
        })
        .detach();
        settle().await;
        assert_eq!(drops.get(), 1, "an output that nobody wants is dropped");
        // Detached after its end.
        let task = spawn_now({
            let witness = Dropped(Rc::clone(&drops));
            async move { witness }
        });
        task.detach();
        assert_eq!(drops.get(), 2);
    });
}

#[test]
fn a_panic_only_ends_its_task() {
    run(async {
        let failing = spawn(async {
            yield_now().await;
            panic!("no luck today");
        });
        spawn(async { panic!("nobody looks") }).detach();
        let other = spawn(async {
            sleep(Duration::from_millis(5)).await;
            "still here"
        });
        let panic = failing.outcome().await.unwrap_err();
        assert_eq!(panic.message(), "no luck today");
        assert_eq!(panic.to_string(), "the task panicked: no luck today");
        assert_eq!(other.await, "still here");
        assert_eq!(counters().panics, 2);
    });
}

#[test]
fn a_panic_in_spawn_now_stays_in_the_task() {
    run(async {
        let text = spawn_now(async { panic!("{}", 1 + 1) }).outcome().await.unwrap_err();
        assert_eq!(text.message(), "2");
    });
}

#[test]
fn awaiting_a_panicked_task_resumes_the_panic() {
    let caught = catch_unwind(|| run(async { spawn(async { panic!("passed on") }).await }));
    let payload = caught.unwrap_err();
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"passed on"));
    // The thread can run another loop.
    assert_eq!(run(async { spawn(async { 3 }).await }), 3);
}

#[test]
fn a_panicking_drop_of_a_future_does_not_end_the_loop() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    run(async {
        let bomb = Bomb;
        let task = spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        });
        // Cancelled by this task, so this task panics.
        assert!(catch_unwind(AssertUnwindSafe(|| drop(task))).is_err());
        let bomb = Bomb;
        spawn(async move {
            let _bomb = bomb;
            pending::<()>().await;
        })
        .detach();
        settle().await;
        // Dropped at the end of the loop, outside any task.
    });
}

#[test]
fn a_panicking_root_leaves_the_thread_usable() {
    let drops = Rc::new(Cell::new(0));
    let witness = Dropped(Rc::clone(&drops));
    let result = catch_unwind(AssertUnwindSafe(|| {
        event_loop::run(async {
            spawn(async move {
                let _witness = witness;
                pending::<()>().await;
            })
            .detach();
            settle().await;
            panic!("root");
        })
    }));
    assert!(result.is_err());
    assert_eq!(drops.get(), 1);
    assert_eq!(run(async { 1 }), 1);
}

#[test]
fn a_loop_in_a_loop_is_refused() {
    run(async {
        let error = event_loop::run(async {}).unwrap_err();
        assert!(error.to_string().contains("already"), "{error}");
        assert_eq!(spawn(async { 1 }).await, 1);
    });
}

#[test]
fn spawning_without_a_loop_panics_with_a_clear_message() {
    let payload = catch_unwind(|| spawn(async {}).detach()).unwrap_err();
    let message = payload.downcast_ref::<String>().cloned();
    let message = message.or(payload.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    assert!(message.unwrap().contains("inside event_loop::run"));
}

#[test]
fn another_thread_can_wake() {
    run(async {
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let mut waiting = Vec::new();
        for number in 0..10 {
            let flag = std::sync::Arc::clone(&flag);
            let mut thread = None;
            waiting.push(spawn(poll_fn(move |context| {
                if flag.load(std::sync::atomic::Ordering::Relaxed) && number % 2 == 0
                    || thread
                        .as_ref()
                        .is_some_and(|thread: &thread::JoinHandle<()>| thread.is_finished())
                {
                    return Poll::Ready(number);
                }
                let waker: Waker = context.waker().clone();
                let flag = std::sync::Arc::clone(&flag);
                thread.get_or_insert_with(|| {
                    thread::spawn(move || {
                        thread::sleep(Duration::from_millis(20));
                        flag.store(true, std::sync::atomic::Ordering::Relaxed);
                        for _ in 0..3 {
                            waker.wake_by_ref();
                        }
                    })
                });
                if number % 2 == 1 {
                    // Odd ones check again until the thread has exited.
                    context.waker().wake_by_ref();
                }
                Poll::Pending
            })));
        }
        for (number, task) in waiting.into_iter().enumerate() {
            assert_eq!(task.await, number);
        }
        assert!(counters().foreign_wakes > 0);
    });
}

#[test]
fn a_foreign_wake_reaches_the_sleeping_root() {
    let (sender, receiver) = std::sync::mpsc::channel::<Waker>();
    let waking = thread::spawn(move || {
        let waker = receiver.recv().unwrap();
        thread::sleep(Duration::from_millis(20));
        waker.wake();
    });
    let mut sender = Some(sender);
    event_loop::run(poll_fn(move |context| match sender.take() {
        Some(sender) => {
            sender.send(context.waker().clone()).unwrap();
            Poll::Pending
        }
        None => Poll::Ready(()),
    }))
    .unwrap();
    waking.join().unwrap();
    assert_eq!((counters().polls, counters().foreign_wakes), (2, 1));
    assert!(counters().turns <= 3, "{:?}", counters());
}

#[test]
fn a_foreign_wake_before_the_first_wait_is_not_lost() {
    let woken_by_a_thread = || {
        let mut polled = false;
        poll_fn(move |context| {
            if polled {
                return Poll::Ready(());
            }
            polled = true;
            let waker = context.waker().clone();
            thread::spawn(move || waker.wake()).join().unwrap();
            Poll::Pending
        })
    };
    // The loop is about to wait.
    event_loop::run(woken_by_a_thread()).unwrap();
    // It never sleeps, because another task is always ready.
    event_loop::run(async {
        let task = spawn(woken_by_a_thread());
        while !task.is_finished() {
            yield_now().await;
        }
        assert_eq!((counters().waits, counters().foreign_wakes), (0, 1));
    })
    .unwrap();
}

#[test]
fn wakers_outlive_their_task_and_their_loop() {
    let kept: Rc<RefCell<Vec<Waker>>> = Rc::default();
    let keep = || {
        let kept = Rc::clone(&kept);
        poll_fn(move |context| {
            kept.borrow_mut().push(context.waker().clone());
            Poll::Ready(())
        })
    };
    run(async {
        spawn(keep()).await;
        // The next task reuses the row.
        let successor = spawn(pending::<()>());
        settle().await;
        let polls = counters().polls;
        let waker = kept.borrow()[0].clone();
        waker.wake();
        yield_now().await;
        assert_eq!(counters().polls, polls + 1, "only we were polled");
        drop(successor);
    });
    run(async {
        let waker = kept.borrow()[0].clone();
        waker.wake();
        settle().await;
    });
    let waker = kept.borrow()[0].clone();
    thread::spawn(move || waker.wake()).join().unwrap();
}

#[test]
fn waking_many_times_is_one_poll() {
    run(async {
        let waker: Rc<RefCell<Option<Waker>>> = Rc::default();
        let polls = Rc::new(Cell::new(0));
        let task = spawn({
            let (waker, polls) = (Rc::clone(&waker), Rc::clone(&polls));
            poll_fn(move |context| {
                *waker.borrow_mut() = Some(context.waker().clone());
                polls.set(polls.get() + 1);
                Poll::<()>::Pending
            })
        });
        settle().await;
        for _ in 0..100 {
            waker.borrow().as_ref().unwrap().wake_by_ref();
        }
        settle().await;
        assert_eq!(polls.get(), 2);
        drop(task);
    });
}

#[test]
fn a_task_that_always_yields_starves_no_socket_and_no_timer() {
    run(async {
        spawn(async {
            loop {
                yield_now().await;
            }
        })
        .detach();
        let (mut near, mut far) = Stream::pair().unwrap();
        let echo = spawn(async move {
            let mut byte = [0];
            for _ in 0..100 {
                far.read_exact(&mut byte).await.unwrap();
                far.write_all(&byte).await.unwrap();
            }
        });
        let mut byte = [0];
        for number in 0..100 {
            near.write_all(&[number]).await.unwrap();
            near.read_exact(&mut byte).await.unwrap();
            assert_eq!(byte, [number]);
        }
        echo.await;
        sleep(Duration::from_millis(5)).await;
        // One wait per budget of polls, and none that could sleep.
        let counters = counters();
        assert!(counters.polls / counters.waits >= 100, "{counters:?}");
        assert_eq!(counters.idle_waits, 0, "{counters:?}");
    });
}

#[test]
fn wakes_on_the_own_thread_make_no_system_call() {
    run(async {
        let tasks: Vec<_> = (0..20)
            .map(|_| {
                spawn(async {
                    for _ in 0..5 {
                        yield_now().await;
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await;
        }
        let counters = counters();
        assert_eq!(counters.waits, 0, "{counters:?}");
        assert_eq!(counters.foreign_wakes, 0);
    });
}

#[test]
fn a_handle_of_another_loop_finds_no_row() {
    let task = run(async { spawn(pending::<()>()) });
    assert!(task.is_finished());
    run(async {
        let bystander = spawn(async { 1 });
        drop(task);
        assert_eq!(bystander.await, 1);
    });
}
