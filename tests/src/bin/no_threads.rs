//! `no-threads PROGRAM ARGUMENTS…` becomes the program, in a process where no thread can be started.
//!
//! A seccomp filter answers `clone3` with ENOSYS, so that the C library falls back to `clone`, and
//! `clone` with CLONE_THREAD with EAGAIN, which is what a shared host's process limit answers. Fork
//! still works. The filter is inherited by every program started from here.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// Where the filter finds things in `struct seccomp_data`, in bytes.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low half of the first argument, on a little-endian machine.
const FIRST_ARGUMENT: u32 = 16;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("no-threads: which program? Use: no-threads PROGRAM ARGUMENTS…");
        return ExitCode::from(2);
    };
    if let Err(error) = refuse_threads() {
        eprintln!("no-threads: the filter cannot be installed: {error}.");
        return ExitCode::from(2);
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("no-threads: {} cannot be run: {error}.", program.display());
    ExitCode::from(127)
}

fn refuse_threads() -> std::io::Result<()> {
    let load = |offset| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset);
    let answer = |what| statement(libc::BPF_RET | libc::BPF_K, what);
    let refuse = |errno: i32| answer(libc::SECCOMP_RET_ERRNO | errno.unsigned_abs());
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let any_bit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let mut filter = [
        load(ARCH),
        jump(equal, ARCHITECTURE, 1, 0),
        allow,
        load(NUMBER),
        jump(equal, system_call(libc::SYS_clone3), 0, 1),
        refuse(libc::ENOSYS),
        jump(equal, system_call(libc::SYS_clone), 1, 0),
        allow,
        load(FIRST_ARGUMENT),
        jump(any_bit, libc::CLONE_THREAD.unsigned_abs(), 0, 1),
        refuse(libc::EAGAIN),
        allow,
    ];
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the filter has a dozen steps"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers alone.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: `program` points to `filter`, and both outlive the call, which copies them.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if installed != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn system_call(number: libc::c_long) -> u32 {
    u32::try_from(number).expect("system calls are numbered from 0")
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("codes have 16 bits"), jt, jf, k }
}
