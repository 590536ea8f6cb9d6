//! Runs each case of a test in a process of its own: signals, standard descriptors, limits and the number of
//! threads belong to a whole process, and the usual harness starts threads.
//!
//! A test that uses this has `harness = false`, and its `main` is [`main`]: the program starts itself once per case,
//! and each of these processes has a single thread. It understands `--list` and part of a name, as the usual
//! harness does. Nothing of this ships.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// A case: its name, what its process runs, and how that process ends.
pub type Case = (&'static str, fn(), Ending);

/// A function that only cases run, in another process ([`itself`]); the runner never does.
pub type Helper = (&'static str, fn());

/// How the process of a case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With exit code 0.
    Success,
    /// Killed by this signal.
    Signal(i32),
}

/// The variable that names the case or helper that a process is to run.
pub const CASE: &str = "TEST_CASE";

/// The variable with the path of a file, empty at first, that belongs to one case.
pub const NOTES: &str = "TEST_NOTES";

/// How long a case may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs the cases, or the one that [`CASE`] names.
pub fn main(cases: &[Case], helpers: &[Helper]) -> ExitCode {
    if let Ok(name) = std::env::var(CASE) {
        let mut all = cases.iter().map(|case| (case.0, case.1)).chain(helpers.iter().copied());
        let (_, case) = all.find(|case| case.0 == name).expect("a case of that name");
        case();
        return ExitCode::SUCCESS;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        cases.iter().for_each(|case| println!("{}: test", case.0));
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|argument| !argument.starts_with('-'));
    let chosen = cases.iter().filter(|case| filter.is_none_or(|filter| case.0.contains(filter)));
    let failures = chosen.filter(|(name, _, ending)| !passes(name, *ending)).count();
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn passes(name: &str, ending: Ending) -> bool {
    let notes = tempfile::NamedTempFile::new().unwrap();
    let mut case = itself(name);
    case.env(NOTES, notes.path());
    let (status, output) = run_case(case);
    let passed = match ending {
        Ending::Success => status.success(),
        Ending::Signal(signal) => status.signal() == Some(signal),
    };
    println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
    if !passed {
        println!("---- {name}: {status}\n{output}");
    }
    passed
}

/// Returns this program, to run a case or a helper. Signals that are ignored here (as under `nohup`) get their default
/// action there.
pub fn itself(case: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    // A backtrace of a program with all its debugging symbols takes more memory than some cases' limits.
    command.env(CASE, case).env("RUST_BACKTRACE", "0").stdin(Stdio::null());
    let default_actions = || {
        for signal in 1..32 {
            // SAFETY: signal-safe; SIG_DFL is a valid action. SIGKILL and SIGSTOP are refused.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec and makes system calls with numbers; it allocates
    // nothing and takes no lock.
    unsafe { command.pre_exec(default_actions) };
    command
}

/// Runs a program to its end, or kills it after a minute; returns how it ended and what it wrote.
pub fn run_case(mut command: Command) -> (ExitStatus, String) {
    let mut output = tempfile::tempfile().unwrap();
    command.stdout(output.try_clone().unwrap()).stderr(output.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let start = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if start.elapsed() > DEADLINE => {
                child.kill().unwrap();
                writeln!(output, "killed after {} s", DEADLINE.as_secs()).unwrap();
                break child.wait().unwrap();
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    (status, text)
}
