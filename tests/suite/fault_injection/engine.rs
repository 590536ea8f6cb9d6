//! Runs a phase again and again, with the n-th call of each row of the table failing.

use std::fs;
use std::path::Path;

use end_to_end::injection::Fault;
use end_to_end::is_long;

use super::checks::*;
use super::phases::{PHASES, Phase, Sweeping};
use super::site::Site;
use super::table::{ERRORS, LASTING};

pub(super) fn sweep_all(name: &str) {
    let phase = PHASES.iter().find(|phase| phase.name == name).expect("it is in the table");
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
        // Otherwise one of them, not the same in every phase.
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
                // The call is not made here.
                break;
            }
        }
    }
    // An strace that injects nothing finds nothing.
    assert!(rows_met >= LEAST_ROWS || only.is_some(), "{name}: {rows_met} rows were met");
    assert!(failures.is_empty(), "{name}: {} failures:\n{}", failures.len(), failures.join("\n"));
}

/// Every phase makes at least this many of the calls: a request on a keep-alive connection reads, writes and
/// waits.
pub(super) const LEAST_ROWS: u32 = 3;

/// A sweep that needs more would never end.
pub(super) const MOST_CALLS: u32 = 600;

/// The outcome of a row of the table.
#[derive(Debug, Default)]
pub(super) struct Row {
    pub(super) injections: u32,
    pub(super) failures: Vec<String>,
}

/// Lets the n-th call fail, n = 1, 2, 3 … until a run is clean.
pub(super) fn sweep(
    phase: &Phase,
    site: &mut Site,
    before: &mut Option<usize>,
    (call, errno, lasting): (&'static str, &'static str, bool),
) -> Row {
    let trace = &site.path("trace");
    let mut row = Row::default();
    for nth in numbers() {
        if before.is_none() {
            *before = Some(without_fault(phase, site, trace));
        }
        let fault = Fault { call, errno, nth, lasting, in_children: phase.in_children };
        site.died = None;
        site.said_before = site.all_said().map(|text| text.len());
        let _ = fs::remove_file(trace);
        let mut sweeping = Sweeping { fault: Some(fault), trace, injector: None };
        let outcome = (phase.drive)(site, &mut sweeping);
        let injected = sweeping.end();
        if injected.is_nothing() {
            if !outcome.is_as_without_faults() {
                row.failures.push(format!("{fault}, not met: {outcome:?}\n{}", site.said()));
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
            .and_then(|()| check_serves_on(site))
            .and_then(|()| check_once_more(site, phase, trace))
            .and_then(|()| check_one_task(site))
            .and_then(|()| check_nothing_left(site, *before))
            .and_then(|()| check_store(site));
        if let Err(trouble) = checked {
            let lines = injected.lines.join("\n    ");
            let said = indented(&site.said());
            row.failures.push(format!("{fault}: {trouble}\n    {lines}\n{said}"));
            // What it left behind does not count for the next one.
            site.begin_anew();
            *before = None;
        }
    }
    if is_long() {
        row.failures.push(format!("{errno} from {call}: no run is clean"));
    }
    row
}

/// How many descriptors are open after the phase when nothing fails.
pub(super) fn without_fault(phase: &Phase, site: &mut Site, trace: &Path) -> usize {
    let outcome = (phase.drive)(site, &mut Sweeping { fault: None, trace, injector: None });
    assert!(outcome.is_as_without_faults(), "{}: {outcome:?}\n{}", phase.name, site.said());
    assert_eq!(site.get("/healthz").status(), Some(200), "{}", phase.name);
    check_nothing_left(site, None).expect("nothing is left without a fault");
    held(site.pid()).expect("it runs")
}

/// What the kernel never returns: reading and setting flags needs nothing that could run out, nor does changing
/// an entry in a poll set, and our own pipe accepts a byte while it is not full.
pub(super) fn is_impossible(line: &str) -> bool {
    let certain = ["F_GETFD", "F_SETFD", "F_GETFL", "F_SETFL", "EPOLL_CTL_MOD", "EPOLL_CTL_DEL"];
    certain.iter().any(|what| line.contains(what)) || line.contains("\"!\", 1)")
}

pub(super) fn indented(text: &str) -> String {
    text.lines()
        .rev()
        .take(25)
        .collect::<Vec<_>>()
        .iter()
        .rev()
        .map(|line| format!("      {line:.300}\n"))
        .collect()
}

/// The calls of each row that fail when not all do.
pub(super) const SOME: [u32; 3] = [1, 3, 8];

/// Which calls fail: all, or some of them.
pub(super) fn numbers() -> impl Iterator<Item = u32> {
    let every = is_long();
    (1..=MOST_CALLS).filter(move |number| every || SOME.contains(number))
}
