//! `no-locks PROGRAM ARGUMENTS…` executes the program where no file can be locked.

use std::process::ExitCode;

use end_to_end::seccomp;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    seccomp::become_filtered("no-locks", seccomp::refuse_locks, arguments)
}
