//! `no-threads PROGRAM ARGUMENTS…` executes the program where no thread can be started.

use std::process::ExitCode;

use end_to_end::seccomp;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    seccomp::become_filtered("no-threads", seccomp::refuse_threads, arguments)
}
