//! What children leave behind: their output, and nothing else.

use std::process::{Command, Stdio};
use std::time::Duration;

use case_runner::{CASE, Case, Ending::Success, Helper, itself, run_case};
use event_loop::time;
use process::descriptors;

use crate::app::{server, settings};
use crate::children::until_no_children;
use crate::client::test;

pub(crate) const CASES: &[Case] = &[
    ("the_output_of_a_child_is_passed_on", the_output_of_a_child_is_passed_on, Success),
    ("many_requests_leave_nothing_behind", many_requests_leave_nothing_behind, Success),
    (
        "requests_fail_when_no_process_can_be_created",
        requests_fail_when_no_process_can_be_created,
        Success,
    ),
];

/// Started by cases, not by the runner.
pub(crate) const HELPERS: &[Helper] =
    &[("printing_helper", printing_helper), ("no_processes_helper", no_processes_helper)];

fn the_output_of_a_child_is_passed_on() {
    let (status, output) = run_case(itself("printing_helper"));
    assert!(status.success(), "{output}");
    assert!(output.contains("a line of the handler\n"), "{output}");
    assert!(output.contains("panicked at") && output.contains("on purpose"), "{output}");
}

fn printing_helper() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        assert_eq!(client.get(true, "/isolated/said").await.status(), 200);
        assert_eq!(client.get(true, "/isolated/culprit/panic").await.status(), 500);
        until_no_children().await;
        // The last output is still on its way.
        for _ in 0..20 {
            event_loop::yield_now().await;
        }
        time::sleep(Duration::from_millis(50)).await;
    });
}

fn many_requests_leave_nothing_behind() {
    test(async {
        let server = server(settings());
        let mut client = server.connect().await;
        let path = |round: usize| match round % 10 {
            0 => "/isolated/culprit/abort",
            1 => "/isolated/culprit/panic",
            2 => "/isolated/culprit/exit",
            3 => "/isolated/empty",
            _ => "/isolated/process",
        };
        client.get(true, path(3)).await;
        until_no_children().await;
        let before = descriptors::open_count().unwrap();
        for round in 0..200 {
            assert!(client.get(true, path(round)).await.ended);
            if round % 10 == 5 {
                // The client leaves before its response.
                let mut leaving = server.connect().await;
                leaving.send_get(1, true, "/isolated/sleep").await;
            }
        }
        until_no_children().await;
        // The last output of a child may still be on its way.
        while descriptors::open_count().unwrap() > before {
            time::sleep(Duration::from_millis(2)).await;
        }
    });
}

/// RLIMIT_NPROC counts the processes of an account but exempts root, so this runs as another user.
fn requests_fail_when_no_process_can_be_created() {
    let mut command = Command::new("prlimit");
    command.arg("--nproc=1:1");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    if status.lines().any(|line| line.starts_with("Uid:\t0\t")) {
        command.args(["setpriv", "--reuid=54322", "--clear-groups"]);
    }
    command.arg(std::env::current_exe().unwrap());
    command.env(CASE, "no_processes_helper").stdin(Stdio::null());
    let (status, output) = run_case(command);
    assert!(status.success(), "{output}");
}

fn no_processes_helper() {
    test(async {
        let mut settings = settings();
        settings.isolated_wait = Duration::from_millis(300);
        let server = server(settings);
        let mut client = server.connect().await;
        for _ in 0..3 {
            assert_eq!(client.get(true, "/process").await.status(), 200);
            let response = client.get(true, "/isolated/process").await;
            assert_eq!(response.status(), 503);
            assert!(response.text().contains("retry-after"));
            assert!(
                response.text().contains("Resource temporarily unavailable"),
                "{}",
                response.text()
            );
        }
    });
}
