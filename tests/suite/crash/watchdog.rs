//! The watchdog ends an event loop that stalled, and nothing else.

use std::thread;
use std::time::Duration;

use end_to_end::fcgi_client::id;
use end_to_end::fixtures::external::{self, External};
use end_to_end::fixtures::{App, Setup};
use end_to_end::process_table;

use super::{ask, begin, check_restarted, program};

#[test]
fn the_watchdog_ends_an_endless_loop() {
    let mut program = program();
    let image = ask(&program, "/image");
    let mut other = program.connect().expect("it listens");
    begin(&mut other, 1, "/hang");
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/loop");
    assert_eq!(culprit.finish(id(1)).expect("a response arrives").status(), 504);
    assert_eq!(other.finish(id(1)).expect("a response arrives").status(), 503);
    check_restarted(&mut program, &image);
    let output = program.app.output();
    assert!(output.contains("(watchdog) in loop: GET /crash/loop"), "{output}");
}

/// The program on each of the two event loops.
fn on_each_loop() -> [(&'static str, External); 2] {
    let setup = Setup::new(App::TestApp, "");
    let in_tokio = external::start_with(&setup, |start, _| start.variable("TEST_APP_TOKIO", "1"));
    [("our own", program()), ("tokio's", in_tokio.expect("the program starts"))]
}

#[test]
fn waiting_and_idling_do_not_trip_the_watchdog_of_either_loop() {
    // The watchdog's limit is 30 s by default, 2 s in the test application.
    let time = Duration::from_secs(if end_to_end::is_long() { 40 } else { 5 });
    let each = on_each_loop().map(|(name, mut program)| {
        thread::spawn(move || {
            let image = ask(&program, "/image");
            let seconds = time.as_secs();
            assert_eq!(ask(&program, &format!("/slow?seconds={seconds}")), "slow", "{name}");
            thread::sleep(time);
            assert_eq!(ask(&program, "/image"), image, "{name}: {}", program.app.output());
            assert_eq!(program.check_unharmed(), Ok(()), "{name}");
            wait_until_nothing_wakes_it(&mut program);
        })
    });
    for checked in each {
        checked.join().expect("it keeps running");
    }
}

#[test]
fn a_busy_tokio_task_does_not_trip_the_watchdog_but_an_endless_loop_does() {
    let [_, (_, mut program)] = on_each_loop();
    let image = ask(&program, "/image");
    assert_eq!(ask(&program, "/busy?seconds=5"), "busy");
    assert_eq!(ask(&program, "/image"), image, "{}", program.app.output());
    let mut culprit = program.connect().expect("it listens");
    begin(&mut culprit, 1, "/crash/loop");
    assert_eq!(culprit.finish(id(1)).expect("a response arrives").status(), 504);
    check_restarted(&mut program, &image);
}

#[test]
fn a_stopped_process_does_not_trip_the_watchdog_and_an_idle_one_sleeps() {
    let mut program = program();
    let image = ask(&program, "/image");
    let pid = program.app.pid();
    let mut waiting = program.connect().expect("it listens");
    begin(&mut waiting, 1, "/slow?seconds=5");
    process_table::signal(pid, libc::SIGSTOP).expect("it runs");
    // Longer than the watchdog's limit.
    thread::sleep(Duration::from_secs(4));
    process_table::signal(pid, libc::SIGCONT).expect("it runs");
    let response = waiting.finish(id(1)).expect("a response arrives");
    assert_eq!(response.body(), b"slow");
    assert_eq!(ask(&program, "/image"), image, "it has not restarted");
    wait_until_nothing_wakes_it(&mut program);
}

/// Waits until the watchdog's timer stops, a few seconds after the last request.
fn wait_until_nothing_wakes_it(program: &mut External) {
    let pid = program.app.pid();
    program
        .app
        .wait_until("its timer has stopped", || {
            let before = process_table::processor_time(pid).expect("it runs");
            let switches = switches(pid);
            thread::sleep(Duration::from_millis(1500));
            let same = process_table::processor_time(pid).expect("it runs") == before;
            same && self::switches(pid) == switches
        })
        .expect("it sleeps");
}

/// How often a process has gone to sleep.
fn switches(pid: u32) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.expect("Linux has this line").to_owned()
}
