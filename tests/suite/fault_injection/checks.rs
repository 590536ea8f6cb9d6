//! What must hold after each fault.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::injection::{Fault, Injected};
use end_to_end::process_table;

use super::phases::{Conversation, Outcome, Phase, Sweeping};
use super::site::{Heard, SETTLED, Site};
use super::table::words;

/// One run that went wrong.
pub(super) type Trouble = String;

/// Whether a fault hit the connection itself: then nobody can respond on it.
pub(super) fn hit_a_connection(injected: &Injected) -> bool {
    let of_connections = ["read(", "write(", "writev(", "epoll_ctl(", "fcntl(", "brk(", "mmap("];
    injected.lines.iter().any(|line| {
        let is_socket = line.contains("<socket:") || line.contains("<UNIX");
        is_socket && of_connections.iter().any(|call| line.contains(call))
    })
}

/// Every conversation ends as expected, with a page that has a reference, or closed if its own socket failed;
/// none hangs.
pub(super) fn check_conversations(
    site: &Site,
    outcome: &Outcome,
    injected: &Injected,
) -> Result<(), Trouble> {
    // A process that is gone takes its connections with it; so does a response that has started.
    let may_be_cut_off = hit_a_connection(injected)
        || site.died.is_some()
        || ["broke off", "Response truncated"].iter().any(|it| site.said().contains(it));
    for Conversation { what, expected, heard, was_idle } in &outcome.conversations {
        let is_fine = match heard {
            Heard::Answer(answer) => {
                let status = answer.status();
                let text = heard.text();
                // A page about a mistake in the request needs no reference.
                let has_reference = text.contains("eference") || status < 500;
                status == *expected || status >= 400 && has_reference
            }
            Heard::Closed => may_be_cut_off || *was_idle && !injected.is_nothing(),
            Heard::Silence | Heard::Trouble(_) => false,
        };
        if !is_fine {
            let text = heard.text();
            return Err(format!("{what}: {heard:.300?} where {expected} was due\n{text:.600}"));
        }
    }
    Ok(())
}

/// Everything that differs from a run without faults has its cause in the log.
pub(super) fn check_log(
    site: &Site,
    fault: Fault,
    outcome: &Outcome,
    injected: &Injected,
) -> Result<(), Trouble> {
    let is_well = outcome.is_as_without_faults() && site.died.is_none();
    if is_well || is_of_the_log(injected) || hit_a_connection(injected) {
        return Ok(());
    }
    let said = site.said();
    // SQLite does not say why it could not open a file, nor std why an existing path is not a folder.
    let opened_store =
        injected.lines.iter().any(|line| line.contains("openat(") && line.contains("toolshed.db"));
    let is_told = opened_store && said.contains("SQLite: ")
        || injected.hit("statx(") && said.contains("File exists");
    if is_told || words(fault.errno).iter().any(|words| said.contains(words)) {
        return Ok(());
    }
    Err("the log does not name the error".to_owned())
}

/// Whether the log itself was what failed.
pub(super) fn is_of_the_log(injected: &Injected) -> bool {
    injected.hit("toolshed.log") || injected.hit("/logs\"") || injected.hit("/stderr>")
}

/// A process that exited early says so by its exit code, and why; by a signal only if the runtime itself could
/// not start, or after a crash that could not be followed by another start.
pub(super) fn check_end(site: &Site, phase: &Phase, fault: Fault) -> Result<(), Trouble> {
    // Plain CGI has no socket to lose.
    let listens = phase.name != "CGI";
    match site.died {
        Some(status) if listens && is_outlived(fault) => {
            Err(format!("the process ended with {status}"))
        }
        Some(status) if status.success() => Err("the process ended as if all were well".to_owned()),
        Some(status)
            if status.code().is_none()
                && !["fatal runtime error", "could not restart in place"]
                    .iter()
                    .any(|reason| site.said().contains(reason)) =>
        {
            Err(format!("the process ended with {status}"))
        }
        _ => Ok(()),
    }
}

/// Whether a fault is one of those that must not end a process, which may be the only one that listens: a brief
/// shortage, where another attempt is all that is needed.
pub(super) fn is_outlived(fault: Fault) -> bool {
    let tried_again = ["epoll_create1", "eventfd2", "execve", "fcntl", "pipe2"];
    let is_short = ["EMFILE", "ENFILE", "ENOMEM"].contains(&fault.errno);
    !fault.lasting && tried_again.contains(&fault.call) && (is_short || fault.call == "execve")
}

/// The next request at the same socket is answered: by the same process or, if that could not start, by the
/// next one that the web server starts.
pub(super) fn check_serves_on(site: &mut Site) -> Result<(), Trouble> {
    match site.get("/healthz") {
        heard if heard.status() == Some(200) => Ok(()),
        heard => Err(format!("the next request hears {heard:.300?}")),
    }
}

/// The same again without a fault goes as if there had been none.
pub(super) fn check_once_more(site: &mut Site, phase: &Phase, trace: &Path) -> Result<(), Trouble> {
    if !phase.is_repeated {
        return Ok(());
    }
    let outcome = (phase.drive)(site, &mut Sweeping { fault: None, trace, injector: None });
    match outcome.is_as_without_faults() {
        true => Ok(()),
        false => {
            let heard = outcome.conversations.iter().map(|one| (one.what, one.heard.status()));
            Err(format!("afterwards, without a fault: {:?}", heard.collect::<Vec<_>>()))
        }
    }
}

pub(super) fn check_one_task(site: &Site) -> Result<(), Trouble> {
    match process_table::tasks(site.pid()) {
        Ok(1) => Ok(()),
        tasks => Err(format!("{tasks:?} tasks, where 1 is promised")),
    }
}

/// No child and no descriptor is left behind.
pub(super) fn check_nothing_left(site: &Site, before: Option<usize>) -> Result<(), Trouble> {
    let deadline = Instant::now() + SETTLED;
    loop {
        let ours = [Some(site.pid()), site.http.as_ref().map(|http| http.0.pid())];
        let others = process_table::running_from(site.folder.path());
        let others: Vec<_> = others.into_iter().filter(|pid| !ours.contains(&Some(*pid))).collect();
        let open = held(site.pid())?;
        // What the start has opened lazily is no leak.
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

/// How many descriptors it has, without the source of randomness, which stays open once it was asked.
pub(super) fn held(pid: u32) -> Result<usize, Trouble> {
    Ok(descriptors(pid)?.iter().filter(|path| *path != "/dev/urandom").count())
}

pub(super) fn descriptors(pid: u32) -> Result<Vec<String>, Trouble> {
    let folder = format!("/proc/{pid}/fd");
    let entries =
        fs::read_dir(&folder).map_err(|error| format!("{folder} cannot be read: {error}"))?;
    // One that was closed meanwhile is none.
    let links = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    Ok(links.map(|link| link.display().to_string()).collect())
}

#[test]
fn counting_descriptors_of_a_missing_process_fails() {
    assert!(held(std::process::id()).is_ok_and(|open| open > 2));
    // No process has it.
    assert!(held(0).is_err());
}

pub(super) fn check_store(site: &Site) -> Result<(), Trouble> {
    let file = site.path("data/toolshed.db");
    if !file.exists() {
        return Ok(());
    }
    let said = rusqlite::Connection::open(&file).and_then(|store| {
        store.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0))
    });
    match said.as_deref() {
        Ok("ok") => Ok(()),
        said => Err(format!("the store is damaged: {said:?}")),
    }
}
