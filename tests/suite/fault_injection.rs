//! Fault injection: in each phase of the program's life the n-th call of each system call fails, n = 1, 2, 3 …
//! until the phase runs without a fault. strace's own trace proves that the last run injected nothing and every
//! one before it did. docs/faults.md has the table.
//!
//! By default, one error per call and a few values of n; with `tests/run --long`, all of them. With
//! `TOOLSHED_TESTS_CALL=openat`, the rows whose call contains that name.

mod checks;
mod engine;
mod phases;
mod site;
mod table;

use std::fs;

use end_to_end::fixtures::project;
use end_to_end::injection::Fault;

use engine::sweep_all;
use phases::PHASES;
use site::Site;
use table::{ERRORS, LASTING};

/// docs/faults.md lists exactly the rows and phases of this test.
#[test]
fn docs_list_every_row_and_every_phase() {
    let page = fs::read_to_string(project().join("docs/faults.md")).expect("the page is there");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .collect();
    let head = rows.iter().find(|row| row[0] == "call").expect("the table's head");
    let phases: Vec<_> = PHASES.iter().map(|phase| phase.name).collect();
    assert_eq!(head[2..], phases);
    let documented: Vec<_> = rows
        .iter()
        .filter(|row| row.len() == head.len() && row[0].starts_with('`'))
        .map(|row| (row[0].replace('`', ""), row[1].to_owned()))
        .collect();
    let calls = ERRORS
        .iter()
        .map(|row| (row, ""))
        .chain(LASTING.iter().map(|row| (row, " and all later ones")));
    let here: Vec<_> = calls
        .map(|((call, errors), on)| (format!("{}{on}", call.replace(',', ", ")), errors.join(", ")))
        .collect();
    assert_eq!(documented, here);
}

#[test]
fn survives_faults_at_the_start() {
    sweep_all("start");
}

#[test]
fn survives_faults_of_a_request_on_a_keep_alive_connection() {
    sweep_all("keep-alive connection");
}

#[test]
fn survives_faults_of_requests_on_new_connections() {
    sweep_all("new connections");
}

#[test]
fn survives_faults_of_a_body_on_disk() {
    sweep_all("body on disk");
}

#[test]
fn survives_faults_of_a_login() {
    sweep_all("login");
}

#[test]
fn survives_faults_of_a_login_in_another_process() {
    sweep_all("login, store there");
}

#[test]
fn survives_faults_of_an_isolated_request() {
    sweep_all("isolated");
}

/// A call that fails in parent and child alike does not show how each handles it.
#[test]
fn survives_faults_of_an_isolated_request_in_its_parent() {
    sweep_all("isolated, parent");
}

#[test]
fn survives_faults_of_requests_over_cgi() {
    sweep_all("CGI");
}

#[test]
fn survives_faults_of_requests_over_http() {
    sweep_all("HTTP");
}

#[test]
fn survives_faults_of_a_touch() {
    sweep_all("touch");
}

#[test]
fn survives_faults_of_a_new_version() {
    sweep_all("new version");
}

#[test]
fn survives_faults_of_a_crash() {
    sweep_all("crash");
}

#[test]
fn survives_faults_at_the_end() {
    sweep_all("SIGTERM");
}

/// A touch then has no effect; without /proc, for example.
#[test]
fn without_proc_the_log_says_that_new_versions_go_unnoticed() {
    let mut site = Site::new();
    let trace = site.path("trace");
    site.start(Some((
        Fault { call: "readlink", errno: "ENOENT", nth: 1, lasting: true, in_children: false },
        &trace,
    )));
    assert_eq!(site.get("/").status(), Some(200), "{}", site.log());
    let log = site.log();
    assert!(log.contains("New versions will not be noticed"), "{log}");
    assert!(log.contains("Is /proc mounted?"), "{log}");
}
