//! Programs as child processes: exit statuses, streams, kills, no zombies.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]

use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use event_loop::signals::Signal;
use event_loop::spawn;
use event_loop::time::{sleep, timeout};
use process::{Child, Command, Stdio, counters};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

/// Runs a test's future on a loop; fails if it hangs.
fn run<F: Future>(future: F) -> F::Output {
    let in_time = async { timeout(Duration::from_secs(30), future).await.expect("the test hangs") };
    event_loop::run(in_time).unwrap()
}

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(script).stdin(Stdio::null());
    command
}

/// Returns whether the process exists, possibly as a zombie.
fn exists(process: u32) -> bool {
    PathBuf::from(format!("/proc/{process}")).exists()
}

async fn until_gone(process: u32) {
    let start = Instant::now();
    while exists(process) {
        assert!(start.elapsed() < Duration::from_secs(10), "process {process} is still there");
        sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn exit_status_and_signals() {
    run(async {
        assert!(shell("exit 0").status().await.unwrap().success());
        assert_eq!(shell("exit 7").status().await.unwrap().code(), Some(7));
        assert_eq!(shell("kill -9 $$").status().await.unwrap().signal(), Some(9));
        let mut child = shell("exit 3").spawn().unwrap();
        for _ in 0..2 {
            assert_eq!(child.wait().await.unwrap().code(), Some(3), "the status is returned again");
        }
        assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(3));
        child.kill().unwrap();
        assert!(!exists(child.id()));
    });
}

#[test]
fn a_program_that_is_not_there() {
    run(async {
        let error = Command::new("/no/such/program").spawn().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    });
    let error = shell("exit 0").spawn().unwrap_err();
    assert!(error.to_string().contains("inside event_loop::run"), "{error}");
}

#[test]
fn streams_both_ways_at_once() {
    run(async {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writing = spawn(async move {
            for number in 0..50_000 {
                stdin.write_all(format!("line {number}\n").as_bytes()).await.unwrap();
            }
        });
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut count = 0;
        while let Some(line) = lines.next_line().await.unwrap() {
            assert_eq!(line, format!("line {count}"));
            count += 1;
        }
        assert_eq!(count, 50_000);
        writing.await;
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn waiting_closes_standard_input() {
    run(async {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn output_is_collected_up_to_a_limit() {
    run(async {
        let output = shell("echo out; echo err >&2; exit 4").output(1000).await.unwrap();
        assert_eq!(output.stdout, b"out\n");
        assert_eq!(output.stderr, b"err\n");
        assert_eq!(output.status.code(), Some(4));

        // More than a pipe holds, on both at once.
        let script =
            "for n in 1 2 3; do head -c 100000 /dev/zero; head -c 100000 /dev/zero >&2; done";
        let output = shell(script).output(300_000).await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 300_000));

        let child = shell("exec cat /dev/zero").stdout(Stdio::piped()).spawn().unwrap();
        let process = child.id();
        let error = child.wait_with_output(100_000).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::FileTooLarge);
        until_gone(process).await;
    });
}

#[test]
fn a_dropped_child_is_killed_and_leaves_no_zombie() {
    run(async {
        let child = shell("exec sleep 1000").spawn().unwrap();
        let process = child.id();
        sleep(Duration::from_millis(20)).await;
        assert!(exists(process));
        drop(child);
        until_gone(process).await;
        // One that has already exited.
        let child = shell("exit 0").spawn().unwrap();
        let process = child.id();
        sleep(Duration::from_millis(50)).await;
        drop(child);
        until_gone(process).await;
        // One that is dropped while its end is awaited.
        let mut child = shell("exec sleep 1000").spawn().unwrap();
        let process = child.id();
        assert!(timeout(Duration::from_millis(5), child.wait()).await.is_err());
        assert!(exists(process), "cancelling the wait kills nobody");
        drop(child);
        until_gone(process).await;
    });
}

#[test]
fn the_end_of_the_loop_ends_the_children() {
    let children: Vec<Child> =
        run(async { (0..3).map(|_| shell("exec sleep 1000").spawn().unwrap()).collect() });
    for child in &children {
        assert!(!exists(child.id()));
    }
}

#[test]
fn many_at_once() {
    run(async {
        let before = counters();
        let tasks: Vec<_> = (0..60)
            .map(|number| {
                spawn(async move {
                    let script = format!("sleep 0.0{}; exit {number}", number % 7);
                    shell(&script).status().await.unwrap().code()
                })
            })
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await, Some(number as i32));
        }
        assert_eq!(
            (counters().started - before.started, counters().reaped - before.reaped),
            (60, 60)
        );
    });
}

#[test]
fn signals_can_be_sent() {
    run(async {
        let mut child = shell("trap 'exit 9' TERM; echo ready; while :; do sleep 0.01; done")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
        child.signal(Signal::Terminate).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(9));
        let mut child = shell("exec sleep 1000").spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(9));
    });
}

#[test]
fn a_group_is_killed_with_its_leader() {
    run(async {
        let script = "sleep 1000 & echo $!; wait";
        let mut child = shell(script).stdout(Stdio::piped()).lead_group().spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).await.unwrap();
        let grandchild: u32 = line.trim().parse().unwrap();
        assert!(exists(grandchild));
        drop(child);
        // init reaps the zombie, possibly late; being dead is enough.
        let start = Instant::now();
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{grandchild}/stat"));
            if stat.is_err() || stat.is_ok_and(|stat| stat.contains(") Z ")) {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(10));
            sleep(Duration::from_millis(2)).await;
        }
    });
}

#[test]
fn environment_and_directory() {
    run(async {
        let mut command = shell("echo $NAME; pwd; echo ${HOME-none}");
        let output = command.env_clear().env("NAME", "value").current_dir("/").output(1000).await;
        assert_eq!(String::from_utf8(output.unwrap().stdout).unwrap(), "value\n/\nnone\n");
    });
}

#[cfg(feature = "tokio")]
#[test]
fn a_loop_inside_tokio_has_children_too() {
    event_loop::run_in_tokio(async {
        assert!(Command::new("true").status().await.unwrap().success());
    })
    .unwrap();
}
