//! `old-kernel PROGRAM ARGUMENTS…` becomes the program, in a process where every system call that is younger
//! than Linux 3.10 is answered with ENOSYS.

use std::process::ExitCode;

use end_to_end::seccomp;

fn main() -> ExitCode {
    let arguments = std::env::args_os().skip(1);
    seccomp::become_filtered("old-kernel", seccomp::refuse_what_linux_3_10_lacks, arguments)
}
