//! What must hold after each fault.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::injection::{Fault, Injected};
use end_to_end::process_table;

use super::phases::{Conversation, Injection, Outcome, Phase};
use super::site::{Reply, SETTLED, Site};
use super::table::messages;

/// What went wrong in one run.
pub(super) type Failure = String;

/// Whether a fault hit a connection, which can then get no response.
fn hit_connection(injected: &Injected) -> bool {
    let of_connections = ["read(", "write(", "writev(", "epoll_ctl(", "fcntl(", "brk(", "mmap("];
    injected.lines.iter().any(|line| {
        let is_socket = line.contains("<socket:") || line.contains("<UNIX");
        is_socket && of_connections.iter().any(|call| line.contains(call))
    })
}

/// Checks that every conversation ends: as expected, with an error page that has a reference, or closed if its
/// own socket failed.
pub(super) fn check_conversations(
    site: &Site,
    outcome: &Outcome,
    injected: &Injected,
) -> Result<(), Failure> {
    // A process that exits closes its connections; a started response can only be truncated.
    let may_be_cut_off = hit_connection(injected)
        || site.died.is_some()
        || ["broke off", "Response truncated"].iter().any(|it| site.log().contains(it));
    for Conversation { what, expected, reply, was_idle } in &outcome.conversations {
        let is_fine = match reply {
            Reply::Response(response) => {
                let status = response.status();
                let text = reply.text();
                // An error of the client's needs no reference.
                let has_reference = text.contains("eference") || status < 500;
                status == *expected || status >= 400 && has_reference
            }
            Reply::Closed => may_be_cut_off || *was_idle && !injected.is_empty(),
            Reply::Silence | Reply::Failure(_) => false,
        };
        if !is_fine {
            let text = reply.text();
            return Err(format!("{what}: {reply:.300?} instead of {expected}\n{text:.600}"));
        }
    }
    Ok(())
}

/// Checks that the log has the cause of everything that differs from a run without faults.
pub(super) fn check_log(
    site: &Site,
    fault: Fault,
    outcome: &Outcome,
    injected: &Injected,
) -> Result<(), Failure> {
    let is_normal = outcome.is_normal() && site.died.is_none();
    if is_normal || hit_log(injected) || hit_connection(injected) {
        return Ok(());
    }
    let log = site.log();
    // SQLite does not report why it could not open a file, nor std why an existing path is not a folder.
    let opened_store =
        injected.lines.iter().any(|line| line.contains("openat(") && line.contains("toolshed.db"));
    let is_explained = opened_store && log.contains("SQLite: ")
        || injected.hit("statx(") && log.contains("File exists");
    if is_explained || messages(fault.errno).iter().any(|message| log.contains(message)) {
        return Ok(());
    }
    Err("the log does not name the error".to_owned())
}

/// Whether writing the log failed.
fn hit_log(injected: &Injected) -> bool {
    injected.hit("toolshed.log") || injected.hit("/logs\"") || injected.hit("/stderr>")
}

/// Checks that a process that exited early has an exit code other than 0. A signal may end it only if the
/// runtime itself could not start, or after a crash if the restart failed.
pub(super) fn check_end(site: &Site, phase: &Phase, fault: Fault) -> Result<(), Failure> {
    // Plain CGI has no socket to lose.
    let listens = phase.name != "CGI";
    match site.died {
        Some(status) if listens && must_survive(fault) => {
            Err(format!("the process exited: {status}"))
        }
        Some(status) if status.success() => Err("the process exited with 0".to_owned()),
        Some(status)
            if status.code().is_none()
                && !["fatal runtime error", "could not restart in place"]
                    .iter()
                    .any(|reason| site.log().contains(reason)) =>
        {
            Err(format!("the process exited: {status}"))
        }
        _ => Ok(()),
    }
}

/// Whether the process must survive the fault, because it may be the only one that listens: brief shortages, for
/// which another attempt is enough.
fn must_survive(fault: Fault) -> bool {
    let retried = ["epoll_create1", "eventfd2", "execve", "fcntl", "pipe2"];
    let is_shortage = ["EMFILE", "ENFILE", "ENOMEM"].contains(&fault.errno);
    !fault.lasting && retried.contains(&fault.call) && (is_shortage || fault.call == "execve")
}

/// Checks that the next request on the same socket is answered: by the same process or, if that could not start,
/// by the next one that the web server starts.
pub(super) fn check_next_request(site: &mut Site) -> Result<(), Failure> {
    match site.get("/healthz") {
        reply if reply.status() == Some(200) => Ok(()),
        reply => Err(format!("the next request: {reply:.300?}")),
    }
}

/// Checks that the phase succeeds again without a fault.
pub(super) fn check_again(site: &mut Site, phase: &Phase, trace: &Path) -> Result<(), Failure> {
    if !phase.is_repeated {
        return Ok(());
    }
    let outcome = (phase.drive)(site, &mut Injection { fault: None, trace, injector: None });
    match outcome.is_normal() {
        true => Ok(()),
        false => {
            let replies = outcome.conversations.iter().map(|one| (one.what, one.reply.status()));
            Err(format!("repeated without a fault: {:?}", replies.collect::<Vec<_>>()))
        }
    }
}

pub(super) fn check_one_task(site: &Site) -> Result<(), Failure> {
    match process_table::tasks(site.pid()) {
        Ok(1) => Ok(()),
        tasks => Err(format!("{tasks:?} tasks instead of 1")),
    }
}

/// Checks that no child and no descriptor is left behind.
pub(super) fn check_no_leaks(site: &Site, before: Option<usize>) -> Result<(), Failure> {
    let deadline = Instant::now() + SETTLED;
    loop {
        let ours = [Some(site.pid()), site.http.as_ref().map(|http| http.0.pid())];
        let others = process_table::running_from(site.folder.path());
        let others: Vec<_> = others.into_iter().filter(|pid| !ours.contains(&Some(*pid))).collect();
        let open = count_descriptors(site.pid())?;
        // Descriptors that are opened lazily, at the first use, are not leaks.
        let has_leaked = before.is_some_and(|before| open > before);
        if others.is_empty() && !has_leaked {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "left behind: processes {others:?}, {open} descriptors instead of {before:?}: {:?}",
                descriptors(site.pid())?
            ));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// The number of descriptors, without that of the random number generator, which stays open after its first use.
pub(super) fn count_descriptors(pid: u32) -> Result<usize, Failure> {
    Ok(descriptors(pid)?.iter().filter(|path| *path != "/dev/urandom").count())
}

pub(super) fn descriptors(pid: u32) -> Result<Vec<String>, Failure> {
    let folder = format!("/proc/{pid}/fd");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{folder} cannot be read: {error}"))?;
    // It may have been closed meanwhile.
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.map(|link| link.display().to_string()).collect())
}

#[test]
fn counting_descriptors_of_a_missing_process_fails() {
    assert!(count_descriptors(std::process::id()).is_ok_and(|open| open > 2));
    // No process has id 0.
    assert!(count_descriptors(0).is_err());
}

pub(super) fn check_store(site: &Site) -> Result<(), Failure> {
    let file = site.path("data/toolshed.db");
    if !file.exists() {
        return Ok(());
    }
    let result = rusqlite::Connection::open(&file).and_then(|store| {
        store.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    });
    match result.as_deref() {
        Ok("ok") => Ok(()),
        result => Err(format!("the store is damaged: {result:?}")),
    }
}
