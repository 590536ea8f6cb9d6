//! Makes system calls fail: strace attaches to a program and makes the n-th call of a given name return an
//! error, as with a full disk, a full table or a signal at that moment.
//!
//! Calls are counted per process, and an exec continues the count.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::process_table;
use crate::program::Start;

/// How long strace may take to attach or detach.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One error to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The system call's name, or several separated by commas.
    pub call: &'static str,
    /// The error's name, such as `ENOSPC`.
    pub errno: &'static str,
    /// Which call fails; the first is 1.
    pub nth: u32,
    /// Whether all later ones fail as well.
    pub lasting: bool,
    /// Whether to follow children: in each, its n-th call fails.
    pub in_children: bool,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { call, errno, nth, lasting, .. } = self;
        write!(formatter, "{errno} from {call} number {nth}")?;
        if *lasting { formatter.write_str(" on") } else { Ok(()) }
    }
}

impl Fault {
    /// strace's arguments for this fault.
    pub fn arguments(self, trace: &Path) -> Vec<String> {
        let Fault { call, errno, nth, lasting, in_children } = self;
        let follow = if in_children { "-f" } else { "-" };
        let on = if lasting { "+" } else { "" };
        let trace = trace.display();
        // With the file of each descriptor: the consequences depend on it.
        let mut arguments = vec![format!("{follow}qyo{trace}"), format!("--trace={call}")];
        // Each name has its own count.
        arguments.extend(call.split(',').map(|call| {
            // brk(2) returns no error, only the current break; the C library turns 0 into ENOMEM.
            let outcome = if call == "brk" { "retval=0".into() } else { format!("error={errno}") };
            format!("--inject={call}:{outcome}:when={nth}{on}")
        }));
        arguments
    }
}

/// What was injected, by the lines of the trace.
#[derive(Clone, Debug, Default)]
pub struct Injected {
    /// A line for each call that strace made fail.
    pub lines: Vec<String>,
}

impl Injected {
    /// Reads the injected calls from a trace.
    ///
    /// # Errors
    ///
    /// If there is no trace.
    pub fn read(trace: &Path) -> io::Result<Self> {
        let text = fs::read(trace)?;
        let text = String::from_utf8_lossy(&text);
        let mut injected = Self::default();
        // If another process made a call in between, the arguments are in an earlier line.
        let mut unfinished = HashMap::new();
        for line in text.lines() {
            let process = line.split_ascii_whitespace().next();
            if line.ends_with("<unfinished ...>") {
                unfinished.insert(process, line);
            } else if line.contains("(INJECTED)") {
                let unfinished =
                    if line.contains(" resumed>") { unfinished.remove(&process) } else { None };
                injected.lines.push([unfinished.unwrap_or(""), line].concat());
            }
        }
        Ok(injected)
    }

    /// Whether nothing was injected.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Whether a call with this in its arguments failed.
    pub fn hit(&self, what: &str) -> bool {
        self.lines.iter().any(|line| line.contains(what))
    }
}

/// A start of `program` with a fault, counted from its first call. The program is the caller's child, and
/// strace the caller's grandchild.
pub fn start(program: &Path, fault: Fault, trace: &Path, log: PathBuf) -> Start {
    let start = Start::new("/usr/bin/strace", log).argument("-D");
    let start = fault.arguments(trace).into_iter().fold(start, Start::argument);
    start.argument(program)
}

/// strace attached to a running program.
#[derive(Debug)]
pub struct Injector {
    strace: Child,
    trace: PathBuf,
}

impl Injector {
    /// Attaches to the program. When this returns, every call counts.
    ///
    /// # Errors
    ///
    /// If strace cannot attach.
    pub fn attach(pid: u32, fault: Fault, trace: &Path) -> io::Result<Self> {
        let _ = fs::remove_file(trace);
        let strace = Command::new("/usr/bin/strace")
            .args(fault.arguments(trace))
            .arg("-p")
            .arg(pid.to_string())
            .stderr(Stdio::null())
            .spawn()?;
        let injector = Self { strace, trace: trace.to_owned() };
        let deadline = Instant::now() + TIMEOUT;
        // A harmless signal: once it is in the trace, calls are being traced.
        while !fs::read_to_string(trace).is_ok_and(|trace| trace.contains("SIGWINCH")) {
            if Instant::now() > deadline {
                return Err(io::Error::other(format!("strace does not follow process {pid}")));
            }
            if is_traced(pid) {
                process_table::signal(pid, libc::SIGWINCH)?;
            }
            thread::sleep(Duration::from_millis(2));
        }
        Ok(injector)
    }

    /// Detaches from the program, and returns what was injected.
    ///
    /// # Errors
    ///
    /// If strace does not exit.
    pub fn detach(mut self) -> io::Result<Injected> {
        self.end()?;
        Injected::read(&self.trace)
    }

    fn end(&mut self) -> io::Result<()> {
        // It may have ended with the program.
        let _ = process_table::signal(self.strace.id(), libc::SIGINT);
        let deadline = Instant::now() + TIMEOUT;
        while self.strace.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.strace.kill()?;
                self.strace.wait()?;
                return Err(io::Error::other("strace did not detach"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        if let Ok(None) = self.strace.try_wait() {
            let _ = self.end();
        }
    }
}

fn is_traced(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    })
}
