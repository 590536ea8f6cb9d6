//! Repeats a phase, with the n-th call of each row of the table failing.

use std::fs;
use std::path::Path;

use end_to_end::injection::Fault;
use end_to_end::is_long;

use super::checks::{
    check_again, check_conversations, check_end, check_log, check_next_request, check_no_leaks,
    check_one_task, check_store, count_descriptors,
};
use super::phases::{Injection, PHASES, Phase};
use super::site::Site;
use super::table::{ERRORS, LASTING};

pub(super) fn sweep_all(name: &str) {
    let phase = PHASES.iter().find(|phase| phase.name == name).expect("the phase exists");
    let only = std::env::var("TOOLSHED_TESTS_CALL").ok();
    let mut site = Site::new();
    let mut before = None;
    let mut failures = Vec::new();
    let mut rows_met = 0;
    let rows = ERRORS.iter().map(|row| (row, false)).chain(LASTING.iter().map(|row| (row, true)));
    for ((call, errors), lasting) in rows {
        if phase.executes && call.contains("brk") {
            continue;
        }
        if only.as_ref().is_some_and(|only| !call.contains(only.as_str())) {
            continue;
        }
        // Without --long, one of the errors, which varies with the phase.
        let chosen = (call.len() + name.len()) % errors.len();
        for errno in if is_long() { *errors } else { &errors[chosen..=chosen] } {
            let row = sweep(phase, &mut site, &mut before, (call, errno, lasting));
            let on = if lasting { ", and all later ones" } else { "" };
            if row.injections > 0 {
                println!("| {name} | {call}{on} | {errno} | {} |", row.injections);
            }
            rows_met += u32::from(row.injections > 0);
            for failure in &row.failures {
                println!("FAILED {name}: {failure}");
            }
            failures.extend(row.failures);
            if row.injections == 0 {
                // The phase does not make the call.
                break;
            }
        }
    }
    // A check that strace injects at all.
    assert!(rows_met >= MIN_ROWS || only.is_some(), "{name}: {rows_met} rows had faults");
    assert!(failures.is_empty(), "{name}: {} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The fewest rows that a phase meets: a request on a keep-alive connection reads, writes and waits.
const MIN_ROWS: u32 = 3;

/// The highest n; a sweep that gets there would never end.
const MAX_CALLS: u32 = 600;

/// The outcome of a row of the table.
#[derive(Debug, Default)]
struct Row {
    injections: u32,
    failures: Vec<String>,
}

/// Makes the n-th call fail, n = 1, 2, 3 … until a run meets no fault.
fn sweep(
    phase: &Phase,
    site: &mut Site,
    before: &mut Option<usize>,
    (call, errno, lasting): (&'static str, &'static str, bool),
) -> Row {
    let trace = &site.path("trace");
    let mut row = Row::default();
    for nth in numbers() {
        if before.is_none() {
            *before = Some(run_without_fault(phase, site, trace));
        }
        let fault = Fault { call, errno, nth, lasting, in_children: phase.in_children };
        site.died = None;
        site.log_lengths = site.all_logs().map(|text| text.len());
        let _ = fs::remove_file(trace);
        let mut injection = Injection { fault: Some(fault), trace, injector: None };
        let outcome = (phase.drive)(site, &mut injection);
        let injected = injection.end();
        if injected.is_empty() {
            if !outcome.is_normal() {
                row.failures.push(format!("{fault}, not injected: {outcome:?}\n{}", site.log()));
            }
            return row;
        }
        if injected.lines.iter().any(|line| is_impossible(line)) {
            (site.program, site.http) = (None, None);
            continue;
        }
        row.injections += 1;
        let checked = check_conversations(site, &outcome, &injected)
            .and_then(|()| check_end(site, phase, fault))
            .and_then(|()| check_log(site, fault, &outcome, &injected))
            .and_then(|()| check_next_request(site))
            .and_then(|()| check_again(site, phase, trace))
            .and_then(|()| check_one_task(site))
            .and_then(|()| check_no_leaks(site, *before))
            .and_then(|()| check_store(site));
        if let Err(failure) = checked {
            let lines = injected.lines.join("\n    ");
            let log = indented(&site.log());
            row.failures.push(format!("{fault}: {failure}\n    {lines}\n{log}"));
            // Start afresh: what this run left behind must not affect the next.
            site.reset();
            *before = None;
        }
    }
    if is_long() {
        row.failures.push(format!("{errno} from {call}: every run met the fault"));
    }
    row
}

/// Runs the phase without a fault and returns the number of open descriptors afterwards.
fn run_without_fault(phase: &Phase, site: &mut Site, trace: &Path) -> usize {
    let outcome = (phase.drive)(site, &mut Injection { fault: None, trace, injector: None });
    assert!(outcome.is_normal(), "{}: {outcome:?}\n{}", phase.name, site.log());
    assert_eq!(site.get("/healthz").status(), Some(200), "{}", phase.name);
    check_no_leaks(site, None).expect("nothing leaks without a fault");
    count_descriptors(site.pid()).expect("it runs")
}

/// Whether the kernel cannot return this error: flags and existing entries of a poll set need no memory, and a
/// pipe that is not full accepts a byte.
fn is_impossible(line: &str) -> bool {
    let certain = ["F_GETFD", "F_SETFD", "F_GETFL", "F_SETFL", "EPOLL_CTL_MOD", "EPOLL_CTL_DEL"];
    certain.iter().any(|what| line.contains(what)) || line.contains("\"!\", 1)")
}

fn indented(text: &str) -> String {
    text.lines()
        .rev()
        .take(25)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .map(|line| format!("      {line:.300}\n"))
        .collect()
}

/// The values of n without `--long`.
const SAMPLE: [u32; 3] = [1, 3, 8];

/// The values of n: all, or a sample.
fn numbers() -> impl Iterator<Item = u32> {
    let every = is_long();
    (1..=MAX_CALLS).filter(move |number| every || SAMPLE.contains(number))
}
