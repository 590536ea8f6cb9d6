//! Says once if other processes serve the same site: what an application keeps in memory, each of them has for itself.

use std::fs;
use std::os::unix::fs::MetadataExt;

/// Says in the log that there are several, if there are.
pub(crate) fn note_others() {
    let others = others();
    if !others.is_empty() {
        note(others.len() + 1);
    }
}

/// Says in the log that there are this many.
pub(crate) fn note(processes: usize) {
    tracing::info!(
        processes,
        "Several processes serve this site, each with its own memory: keep what has to be the same for all in a file \
         or a database (docs/your-own-app.md)."
    );
}

/// Returns the processes that run the same file, except the parent and children of this one. Those that this account may not
/// look at are others'.
fn others() -> Vec<u32> {
    let file = |process: &str| {
        let metadata = fs::metadata(format!("/proc/{process}/exe")).ok()?;
        Some((metadata.dev(), metadata.ino()))
    };
    let Some(own) = file("self") else { return Vec::new() };
    let (this, parent) = (std::process::id(), std::os::unix::process::parent_id());
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    all.filter(|process| ![this, parent].contains(process))
        .filter(|process| file(&process.to_string()) == Some(own))
        .filter(|process| parent_of(*process).is_some_and(|its_parent| its_parent != this))
        .collect()
}

/// Returns the parent of a process (proc_pid_stat(5)).
fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name may contain anything, also a parenthesis.
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_no_other_process() {
        let mut child = std::process::Command::new("/proc/self/exe")
            .args(["--exact", "no-such-test"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let is_known = others().contains(&child.id());
        child.wait().unwrap();
        assert!(!is_known);
        assert_eq!(parent_of(std::process::id()), Some(std::os::unix::process::parent_id()));
    }
}
