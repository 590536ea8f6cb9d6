//! Signals as the loop receives them, and their actions in the process.

use std::process::Command;
use std::time::Duration;

use event_loop::net::Stream;
use event_loop::signals::{Disposition, Signal, Signals, disposition, listen};
use event_loop::time::timeout;
use event_loop::{counters, spawn, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Sends signals to this process from another, after `delay` seconds.
fn signal_later(delay: &str, names: &str) -> std::process::Child {
    let mut script = format!("sleep {delay}");
    for name in names.split(' ') {
        script += &format!("; kill -{name} {}", std::process::id());
    }
    Command::new("sh").arg("-c").arg(script).spawn().unwrap()
}

/// Sends a signal to this process, now.
fn raise(name: &str) {
    let number = std::process::id().to_string();
    assert!(Command::new("kill").arg(format!("-{name}")).arg(number).status().unwrap().success());
}

pub(crate) fn a_signal_wakes_the_idle_loop() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate, Signal::Hangup]).unwrap();
        let mut child = signal_later("0.1", "TERM");
        let before = counters().turns;
        assert_eq!(signals.recv().await, Signal::Terminate);
        assert!(counters().turns - before < 5);
        child.wait().unwrap();
    })
    .unwrap();
}

pub(crate) fn terminate_twice() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        let mut child = signal_later("0.05", "TERM");
        assert_eq!(signals.recv().await, Signal::Terminate);
        child.wait().unwrap();
        // Listening continues, and the second one is received, too.
        let mut child = signal_later("0.05", "TERM");
        assert_eq!(signals.recv().await, Signal::Terminate);
        child.wait().unwrap();
        // Two that arrive while nothing waits both stay pending.
        raise("TERM");
        raise("TERM");
        assert_eq!(signals.recv().await, Signal::Terminate);
        assert_eq!(signals.recv().await, Signal::Terminate);
        assert!(timeout(Duration::from_millis(20), signals.recv()).await.is_err());
        assert_eq!(counters().signals, 4);
    })
    .unwrap();
}

pub(crate) fn each_listener_receives() {
    event_loop::run(async {
        let mut both = listen(&[Signal::User1, Signal::Terminate]).unwrap();
        let mut one = listen(&[Signal::User1]).unwrap();
        raise("USR1");
        raise("TERM");
        assert_eq!(one.recv().await, Signal::User1);
        assert_eq!(both.recv().await, Signal::Terminate, "first things first");
        assert_eq!(both.recv().await, Signal::User1);
        drop(one);
        raise("USR1");
        assert_eq!(both.recv().await, Signal::User1);
        // In a task, and dropped there.
        let task = spawn(async move { both.recv().await });
        yield_now().await;
        raise("TERM");
        assert_eq!(task.await, Signal::Terminate);
        assert_eq!(disposition(Signal::User1).unwrap(), Disposition::Default);
    })
    .unwrap();
    // The next loop uses the same self-pipe.
    event_loop::run(async {
        let mut signals = listen(&[Signal::Hangup]).unwrap();
        raise("HUP");
        assert_eq!(signals.recv().await, Signal::Hangup);
    })
    .unwrap();
}

pub(crate) fn without_a_listener_the_former_action_is_restored() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::Terminate]).unwrap();
        raise("TERM");
        signals.recv().await;
        drop(signals);
        raise("TERM");
        panic!("survived");
    })
    .unwrap();
}

pub(crate) fn an_ended_loop_catches_nothing() {
    let signals: Signals = event_loop::run(async { listen(&[Signal::Hangup]).unwrap() }).unwrap();
    assert_eq!(disposition(Signal::Hangup).unwrap(), Disposition::Listened);
    drop(signals);
    raise("HUP");
    panic!("survived");
}

pub(crate) fn dispositions() {
    assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Default);
    // A shell without job control starts background commands with this signal ignored.
    let quit_before = disposition(Signal::Quit).unwrap();
    let error = listen(&[Signal::Terminate]).unwrap_err();
    assert!(error.to_string().contains("inside event_loop::run"));
    event_loop::run(async {
        let signals = listen(&[Signal::Terminate]).unwrap();
        let more = listen(&[Signal::Terminate, Signal::Quit]).unwrap();
        assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Listened);
        assert_eq!(disposition(Signal::Quit).unwrap(), Disposition::Listened);
        assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
        drop(more);
        assert_eq!(disposition(Signal::Terminate).unwrap(), Disposition::Listened);
        assert_eq!(disposition(Signal::Quit).unwrap(), quit_before);
        drop(signals);
    })
    .unwrap();
    assert_eq!(disposition(Signal::Child).unwrap(), Disposition::Default);
}

/// Reads and writes continue under a flood of signals, and none is lost.
pub(crate) fn signals_under_fire() {
    event_loop::run(async {
        let mut signals = listen(&[Signal::User2, Signal::Terminate]).unwrap();
        let (mut near, mut far) = Stream::pair().unwrap();
        let echo = spawn(async move {
            let mut byte = [0];
            loop {
                far.read_exact(&mut byte).await.unwrap();
                far.write_all(&byte).await.unwrap();
            }
        });
        let number = std::process::id();
        let script =
            format!("for n in $(seq 2000); do kill -USR2 {number}; done; kill -TERM {number}");
        let mut child = Command::new("sh").arg("-c").arg(script).spawn().unwrap();
        let mut received = 0;
        let hearing = spawn(async move {
            let mut terminated = false;
            // SIGTERM is received before other pending signals, and may even come first on a busy machine.
            while !terminated || received == 0 {
                match signals.recv().await {
                    Signal::Terminate => terminated = true,
                    _ => received += 1,
                }
            }
        });
        let mut byte = [0];
        while !hearing.is_finished() {
            near.write_all(b"x").await.unwrap();
            near.read_exact(&mut byte).await.unwrap();
        }
        hearing.await;
        drop(echo);
        child.wait().unwrap();
    })
    .unwrap();
}

pub(crate) fn a_broken_pipe_is_an_error() {
    event_loop::signals::ignore_failed_writes().unwrap();
    event_loop::run(async {
        let (mut near, far) = Stream::pair().unwrap();
        drop(far);
        let error = near.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    })
    .unwrap();
}
