//! A long wait in a handler and a long quiet on the loop, on our own loop and in tokio's runtime: nothing is interrupted, and a
//! process that has nothing to do costs nothing. As long as mod_fcgid waits (40 s) with `--long`, a tenth of that otherwise.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Running, Setup, nginx, serve};
use end_to_end::http_client::Request;
use end_to_end::is_long;
use end_to_end::process_table::processor_time;

fn seconds() -> u64 {
    if is_long() { 40 } else { 4 }
}

/// How often a process has gone to sleep.
fn sleeps(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.expect("Linux has this line").trim().parse().expect("a number")
}

/// `path` answers after a wait.
fn waits_and_is_quiet(running: &Running, path: &str) {
    let begun = Instant::now();
    let waited = Request::get(path).send(running.address).expect("a response");
    assert_eq!(waited.status, 200, "{}", running.output());
    assert!(begun.elapsed() >= Duration::from_secs(seconds()), "it has not waited");

    let costs = || {
        let processes = running.our_processes();
        assert!(!processes.is_empty(), "{}", running.output());
        let cost = |pid: &u32| (sleeps(*pid), processor_time(*pid).expect("it runs"));
        let (sleeps, times): (Vec<_>, Vec<_>) = processes.iter().map(cost).unzip();
        (sleeps.iter().sum::<u64>(), times.iter().sum::<Duration>())
    };
    let (sleeps_before, time_before) = costs();
    thread::sleep(Duration::from_secs(seconds()));
    let (sleeps_after, time_after) = costs();
    // It looks at files every 2 to 10 s, and ends what the request needed.
    let (woken, most) = (sleeps_after - sleeps_before, 5 * seconds() + 10);
    assert!(woken <= most, "woken {woken} times");
    let computed = time_after - time_before;
    assert!(computed <= Duration::from_millis(20 * seconds()), "it has computed for {computed:?}");
    let after = Request::get(path.replace(char::is_numeric, "0")).send(running.address);
    assert_eq!(after.expect("a response").status, 200, "{}", running.output());
}

#[test]
fn on_our_own_loop() {
    let path = format!("/slow?seconds={}", seconds());
    let setup = Setup::new(App::TestApp, "");
    waits_and_is_quiet(&serve::start(&setup).expect("it starts"), &path);
    waits_and_is_quiet(&nginx::start(&setup, true).expect("nginx starts"), &path);
}

#[test]
fn in_tokios_runtime() {
    let path = format!("/sleep/{}", seconds() * 1000);
    let setup = Setup::new(App::OwnApp, "");
    waits_and_is_quiet(&serve::start(&setup).expect("it starts"), &path);
    waits_and_is_quiet(&nginx::start(&setup, true).expect("nginx starts"), &path);
}
