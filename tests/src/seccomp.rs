//! System call filters (seccomp) that make this machine as limited as a shared host: without threads, without
//! calls newer than Linux 3.10, or without file locks.
//!
//! A filter is inherited by all children and can never be removed.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xC000_00B7;

/// The first system call that Linux 3.10 does not have: sched_setattr, of 3.14. Later calls have higher numbers.
#[cfg(target_arch = "x86_64")]
const FIRST_AFTER_LINUX_3_10: u32 = 314;
#[cfg(target_arch = "aarch64")]
const FIRST_AFTER_LINUX_3_10: u32 = 274;

/// Byte offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
/// The low halves of the first two arguments, on a little-endian machine.
const FIRST_ARGUMENT: u32 = 16;
const SECOND_ARGUMENT: u32 = 24;

const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const AT_LEAST: u32 = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;

/// Installs a filter and executes the program in the arguments; `name` is our own, for messages. Returns only if
/// that fails.
pub fn become_filtered(
    name: &str,
    install: fn() -> io::Result<()>,
    mut arguments: impl Iterator<Item = OsString>,
) -> ExitCode {
    let Some(program) = arguments.next() else {
        eprintln!("{name}: which program? Use: {name} PROGRAM ARGUMENTS…");
        return ExitCode::from(2);
    };
    if let Err(error) = install() {
        eprintln!("{name}: the filter cannot be installed: {error}.");
        return ExitCode::from(2);
    }
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("{name}: {} cannot be run: {error}.", program.display());
    ExitCode::from(127)
}

/// Makes `clone3` fail with ENOSYS, so that the C library falls back to `clone`, and `clone` with CLONE_THREAD
/// fail with EAGAIN, as at a shared host's process limit. Fork still works.
///
/// # Errors
///
/// If the kernel has no seccomp filters.
pub fn refuse_threads() -> io::Result<()> {
    install(&mut [
        load(ARCH),
        jump(EQUAL, ARCHITECTURE, 1, 0),
        allow(),
        load(NUMBER),
        jump(EQUAL, system_call(libc::SYS_clone3), 0, 1),
        refuse(libc::ENOSYS),
        jump(EQUAL, system_call(libc::SYS_clone), 1, 0),
        allow(),
        load(FIRST_ARGUMENT),
        jump(ANY_BIT, libc::CLONE_THREAD.unsigned_abs(), 0, 1),
        refuse(libc::EAGAIN),
        allow(),
    ])
}

/// Makes every system call that Linux 3.10 does not have fail with ENOSYS, as on that kernel.
///
/// # Errors
///
/// If the kernel has no seccomp filters.
pub fn refuse_what_linux_3_10_lacks() -> io::Result<()> {
    install(&mut [
        load(ARCH),
        jump(EQUAL, ARCHITECTURE, 1, 0),
        allow(),
        load(NUMBER),
        jump(AT_LEAST, FIRST_AFTER_LINUX_3_10, 0, 1),
        refuse(libc::ENOSYS),
        allow(),
    ])
}

/// Makes `fcntl` with F_SETLK or F_SETLKW fail with ENOLCK, as on a network file system without a lock service.
///
/// # Errors
///
/// If the kernel has no seccomp filters.
pub fn refuse_locks() -> io::Result<()> {
    install(&mut [
        load(ARCH),
        jump(EQUAL, ARCHITECTURE, 1, 0),
        allow(),
        load(NUMBER),
        jump(EQUAL, system_call(libc::SYS_fcntl), 1, 0),
        allow(),
        load(SECOND_ARGUMENT),
        jump(EQUAL, libc::F_SETLK.unsigned_abs(), 1, 0),
        jump(EQUAL, libc::F_SETLKW.unsigned_abs(), 0, 1),
        refuse(libc::ENOLCK),
        allow(),
    ])
}

fn install(filter: &mut [libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).expect("the filter is short"),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes only numbers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `program` points to `filter`, and both outlive the call, which copies them.
    let installed =
        unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    if installed != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn system_call(number: libc::c_long) -> u32 {
    u32::try_from(number).expect("system call numbers are not negative")
}

fn load(offset: u32) -> libc::sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn allow() -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW)
}

fn refuse(errno: i32) -> libc::sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs())
}

fn statement(code: u32, k: u32) -> libc::sock_filter {
    jump(code, k, 0, 0)
}

fn jump(code: u32, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code: u16::try_from(code).expect("codes have 16 bits"), jt, jf, k }
}
