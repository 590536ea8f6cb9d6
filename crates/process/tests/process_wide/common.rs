//! What the cases share.

pub(crate) use case_runner::{CASE, itself, run_case};
pub(crate) use event_loop::net::{Address, Listener, Stream};
pub(crate) use event_loop::signals::{Disposition, Signal, disposition, listen};
pub(crate) use event_loop::time::{sleep, timeout};
pub(crate) use event_loop::{pipe, spawn, yield_now};
pub(crate) use process::draining_child::{self, Forked};
pub(crate) use process::fork::{ForkOptions, fresh};
pub(crate) use process::{Failure, Limits, compute, counters, descriptors, reexec};
pub(crate) use std::fs::File;
pub(crate) use std::io::{Read, Write};
pub(crate) use std::os::fd::{AsFd, AsRawFd, OwnedFd};
pub(crate) use std::os::unix::net::{UnixListener, UnixStream};
pub(crate) use std::os::unix::process::ExitStatusExt;
pub(crate) use std::path::Path;
pub(crate) use std::process::{Command, Stdio};
pub(crate) use std::time::{Duration, Instant};
pub(crate) use tokio::io::{AsyncReadExt, AsyncWriteExt};

pub(crate) fn one_thread() {
    assert_eq!(sys::threads::count().unwrap(), 1);
}

/// Returns the descriptors that a child finds open, including the one used for listing. What started the tests may
/// have left more than 0, 1 and 2 open.
pub(crate) fn open_in_child() -> Vec<String> {
    // exec, because the shell would keep its own descriptors.
    let script = "exec ls /proc/self/fd";
    let output = Command::new("sh").args(["-c", script]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Returns the children of this process, including zombies, as lines of /proc.
pub(crate) fn children() -> Vec<String> {
    let parent = format!(" {} ", std::process::id());
    let processes = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|path| std::fs::read_to_string(path.join("stat")).ok());
    // pid (name) state parent …
    lines
        .filter(|line| {
            let after_name = line.rsplit(") ").next().unwrap_or_default();
            after_name.get(1..).is_some_and(|rest| rest.starts_with(&parent))
        })
        .collect()
}

pub(crate) const SMALL: Limits = Limits {
    cpu: Duration::from_secs(1),
    wall: Duration::from_secs(20),
    memory: 64 << 20,
    file_size: 100_000,
};

pub(crate) async fn until_no_children() {
    let start = Instant::now();
    while !children().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", children());
        yield_now().await;
    }
}

/// What `replaced_helper` re-executes itself from.
pub(crate) const FROM: &str = "FROM";

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
