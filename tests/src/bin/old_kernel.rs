//! `old-kernel PROGRAM ARGUMENTS…` executes the program where every system call that is newer than Linux
//! 3.10 fails with ENOSYS.

use std::process::ExitCode;

use end_to_end::seccomp;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    seccomp::become_filtered("old-kernel", seccomp::refuse_what_linux_3_10_lacks, arguments)
}
