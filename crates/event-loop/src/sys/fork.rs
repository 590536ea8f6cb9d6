//! Child processes without a new program: `fork(2)`, what the child has to leave behind, limits, endings.
//!
//! What the child runs, and who waits for it, is decided in `fork.rs` and `process.rs`.

use std::ffi::{CStr, c_int, c_long};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{POST, Standard, check, replace_standard, set_action};
use crate::descriptors;
use crate::fork::Limits;
use crate::process::Usage;

// ---------------------------------------------------------------------------------------------------
// The fork itself.

/// In which of the two processes a fork has returned.
pub(crate) enum Forked {
    /// The caller; the child's number.
    Parent(u32),
    /// The new process, with a copy of everything.
    Child,
}

/// `fork(2)`.
///
/// # Errors
///
/// `Unsupported` when the process has more than one thread: what the others held, a lock of the allocator
/// say, would stay held in the child for ever. Also when that cannot be found out, for `/proc` is missing.
/// Else EAGAIN or ENOMEM.
pub(crate) fn fork() -> io::Result<Forked> {
    match descriptors::task_count() {
        Ok(1) => {}
        Ok(count) => {
            let message = format!("a process of {count} threads cannot be forked safely");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        Err(error) => {
            let message = format!("whether this process has one thread is unknown: {error}");
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
    }
    // SAFETY: this is the only thread (looked at just above, and nobody else could start one): the child
    // has consistent memory and every lock is free or held by the code that goes on.
    match check(unsafe { libc::fork() })? {
        0 => Ok(Forked::Child),
        number => Ok(Forked::Parent(number as u32)),
    }
}

/// Holds all signals back, so that no handler runs between a fork and the moment when the child has put
/// the handlers off.
pub(crate) struct SignalsBlocked {
    previous: libc::sigset_t,
}

impl SignalsBlocked {
    /// Blocks all; the drop puts back what was before.
    pub(crate) fn all() -> io::Result<Self> {
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset fills the set; sigprocmask reads it and fills the other.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            check(libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), previous.as_mut_ptr()))?;
            Ok(SignalsBlocked { previous: previous.assume_init() })
        }
    }

    /// Blocks none from now on, whatever was before.
    pub(crate) fn unblock_all(self) {
        let mut none = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset fills the set; a null pointer means that nobody wants the previous one.
        unsafe {
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut());
        }
        mem::forget(self);
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: `previous` was filled by sigprocmask.
        unsafe {
            libc::sigprocmask(libc::SIG_SETMASK, &raw const self.previous, std::ptr::null_mut())
        };
    }
}

/// Ends the process at once: no destructor, no buffer of the parent's is written.
pub(crate) fn exit_at_once(code: u8) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(c_int::from(code)) }
}

// ---------------------------------------------------------------------------------------------------
// What a fresh child leaves behind.

/// Does with every signal what the kernel does by itself; except SIGPIPE, which stays ignored, as in every
/// Rust program.
pub(crate) fn default_signal_actions() {
    for signal in 1..=64 {
        let action = if signal == libc::SIGPIPE { libc::SIG_IGN } else { libc::SIG_DFL };
        // SIGKILL, SIGSTOP and two that are the C library's own cannot be set, and need not be.
        let _ = set_action(signal, action, 0);
    }
}

/// Closes the self-pipes that were copied with the process. For a child that has no loop yet.
pub(crate) fn forget_mailboxes() {
    for mailbox in &POST {
        mailbox.interest.store(0, Ordering::Release);
        mailbox.taken.store(false, Ordering::Release);
        for end in [&mailbox.doorbell, &mailbox.door] {
            let fd = end.swap(-1, Ordering::AcqRel);
            if fd != -1 {
                // SAFETY: the descriptor was the mailbox's own, which has just forgotten it.
                unsafe { libc::close(fd) };
            }
        }
    }
}

/// Disarms the three interval timers. (A fork copies none; this is for whoever asks.)
pub(crate) fn disarm_interval_timers() {
    // SAFETY: itimerval is plain integers, for which all-zero is a value: "off".
    let off: libc::itimerval = unsafe { mem::zeroed() };
    for timer in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: `off` is initialised; a null pointer means that nobody wants the previous value.
        unsafe { libc::setitimer(timer, &raw const off, std::ptr::null_mut()) };
    }
}

/// Makes the calling process the leader of a group of its own.
pub(crate) fn lead_group() -> io::Result<()> {
    // SAFETY: setpgid takes integers alone.
    check(unsafe { libc::setpgid(0, 0) })?;
    Ok(())
}

/// Makes a child the leader of a group of its own, in case it has not come to do so itself.
pub(crate) fn let_lead_group(child: u32) {
    // SAFETY: setpgid takes integers alone. It fails when the child has done it and executed a program,
    // or has ended: both are well.
    unsafe { libc::setpgid(child as libc::pid_t, child as libc::pid_t) };
}

/// Lets the kernel kill the calling process when the thread that started it has ended; and does so itself
/// when that has happened already. Async-signal-safe.
pub(crate) fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer.
    check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) })?;
    // SAFETY: getppid cannot fail.
    if unsafe { libc::getppid() } != parent as libc::pid_t {
        exit_at_once(1);
    }
    Ok(())
}

/// Sets the three standard descriptors of a child: nothing to read; and where it writes, unless that stays
/// what it is.
pub(crate) fn replace_standard_descriptors(output: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let null = std::fs::File::open("/dev/null")?;
    replace_standard(Standard::Input, null.as_fd())?;
    if let Some(output) = output {
        replace_standard(Standard::Output, output)?;
        replace_standard(Standard::Error, output)?;
    }
    Ok(())
}

/// Closes what lets a process hold on to others: sockets (listeners, connections), pipes, and the kernel's
/// nameless files (epoll, eventfd). Except those `given` and the three standard ones.
///
/// What has a name stays open: a log file, a random source that a library keeps.
///
/// For a child that never drops what it has a copy of: the numbers may become somebody else's.
pub(crate) fn close_connections(given: &[RawFd]) -> io::Result<()> {
    each_descriptor(|fd| {
        if fd > 2 && !given.contains(&fd) && is_connection(fd) {
            // SAFETY: close takes an integer; the owner of the descriptor is in the parent's world and is
            // never dropped in this process.
            unsafe { libc::close(fd) };
        }
    })
}

fn is_connection(fd: RawFd) -> bool {
    let mut status = MaybeUninit::<libc::stat>::uninit();
    // SAFETY: `status` has room for the answer.
    if unsafe { libc::fstat(fd, status.as_mut_ptr()) } == -1 {
        return false;
    }
    // SAFETY: fstat succeeded and has filled it.
    let kind = unsafe { status.assume_init() }.st_mode & libc::S_IFMT;
    // Nameless files have no kind at all.
    matches!(kind, libc::S_IFSOCK | libc::S_IFIFO | 0)
}

/// Lets no descriptor but the three standard ones pass into the next program. Async-signal-safe.
fn close_all_on_exec() -> io::Result<()> {
    each_descriptor(|fd| {
        if fd > 2 {
            // SAFETY: F_SETFD takes an integer and touches no memory.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    })
}

/// Calls `act` with every open descriptor but the one that this itself needs. It may close the descriptor.
/// Async-signal-safe, if `act` is.
fn each_descriptor(mut act: impl FnMut(RawFd)) -> io::Result<()> {
    const FOLDER: &CStr = c"/proc/self/fd";
    let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC;
    // SAFETY: the path ends with a zero byte.
    let folder = check(unsafe { libc::open(FOLDER.as_ptr(), flags) })?;
    let mut entries = [0u8; 4096];
    let result = loop {
        // SAFETY: pointer and length are those of `entries`, which the kernel writes.
        let read = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                c_long::from(folder),
                entries.as_mut_ptr(),
                entries.len(),
            )
        };
        match usize::try_from(read) {
            Ok(0) => break Ok(()),
            Err(_) => break Err(io::Error::last_os_error()),
            Ok(read) => {
                let mut rest = &entries[..read];
                while let Some((name, behind)) = first_entry(rest) {
                    rest = behind;
                    if let Some(fd) = number(name).filter(|fd| *fd != folder) {
                        act(fd);
                    }
                }
            }
        }
    };
    // SAFETY: the descriptor was opened above and nobody else knows it.
    unsafe { libc::close(folder) };
    result
}

/// Takes one `linux_dirent64` off: inode (8 bytes), offset (8), length (2), kind (1), name.
fn first_entry(entries: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]));
    let name = entries.get(19..length)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some((name, entries.get(length..)?))
}

fn number(name: &[u8]) -> Option<RawFd> {
    let mut number: RawFd = 0;
    for digit in name {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number = number.checked_mul(10)?.checked_add(RawFd::from(digit))?;
    }
    (!name.is_empty()).then_some(number)
}

// ---------------------------------------------------------------------------------------------------
// Limits.

/// What `setrlimit(2)` calls a resource: its type differs between C libraries.
#[cfg(target_env = "gnu")]
type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
type Resource = c_int;

/// Sets the limits of the calling process; `size` is the address space that it has already, in bytes.
/// Async-signal-safe.
pub(crate) fn set_limits(limits: &Limits, size: u64) -> io::Result<()> {
    let seconds = limits.cpu.as_secs() + u64::from(limits.cpu.subsec_nanos() > 0);
    let seconds = seconds.max(1);
    // SIGXCPU first; a second later SIGKILL for who ignores it.
    lower(libc::RLIMIT_CPU, seconds, seconds + 1)?;
    let memory = size.saturating_add(limits.memory);
    lower(libc::RLIMIT_AS, memory, memory)?;
    lower(libc::RLIMIT_FSIZE, limits.file_size, limits.file_size)?;
    // A core file of a crash on purpose would eat the owner's disk quota.
    lower(libc::RLIMIT_CORE, 0, 0)
}

/// Sets a limit; what the system allows at most stays the most.
fn lower(resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` has room for the answer.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    // RLIM_INFINITY is the largest number there is.
    limit.rlim_max = limit.rlim_max.min(hard);
    limit.rlim_cur = limit.rlim_max.min(soft);
    // SAFETY: `limit` is initialised.
    check(unsafe { libc::setrlimit(resource, &raw const limit) })?;
    Ok(())
}

/// The bytes of a page of memory.
pub(crate) fn page_size() -> u64 {
    // SAFETY: sysconf takes an integer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Lets a program that is started later inherit nothing but descriptors 0, 1 and 2, and die with us.
pub(crate) fn inherit_nothing(command: &mut std::process::Command) {
    let parent = std::process::id();
    // SAFETY: the closure makes system calls alone and allocates nothing: async-signal-safe, as code
    // between fork and exec has to be.
    unsafe {
        command.pre_exec(move || {
            die_with_parent(parent)?;
            set_action(libc::SIGXFSZ, libc::SIG_DFL, 0)?;
            close_all_on_exec()
        });
    }
}

/// Lets a program that is started later have limits. Its memory is limited in all, not beyond what it has.
pub(crate) fn limit_program(command: &mut std::process::Command, limits: Limits) {
    // SAFETY: as above.
    unsafe {
        command.pre_exec(move || set_limits(&limits, 0));
    }
}

// ---------------------------------------------------------------------------------------------------
// Endings.

/// Says whether a child has ended, and leaves it unreaped: its number and its group's stay its own.
pub(crate) fn has_ended(child: u32) -> io::Result<bool> {
    // SAFETY: siginfo_t is plain integers, for which all-zero is a value.
    let mut information: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `information` has room for the answer.
    check(unsafe {
        libc::waitid(libc::P_PID, child as libc::id_t, &raw mut information, options)
    })?;
    // SAFETY: waitid has filled it, or left it zero when the child runs; si_pid is valid for both.
    Ok(unsafe { information.si_pid() } != 0)
}

/// Reaps a child if it has ended.
pub(crate) fn reap(child: u32) -> io::Result<Option<(ExitStatus, Usage)>> {
    let mut status: c_int = 0;
    // SAFETY: rusage is plain integers, for which all-zero is a value.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    let (status_pointer, usage_pointer) = (&raw mut status, &raw mut usage);
    // SAFETY: both pointers are to variables with room for the answers.
    let reaped = check(unsafe {
        libc::wait4(child as libc::pid_t, status_pointer, libc::WNOHANG, usage_pointer)
    })?;
    let time = |time: libc::timeval| {
        Duration::new(time.tv_sec.max(0) as u64, (time.tv_usec.max(0) as u32).saturating_mul(1000))
    };
    Ok((reaped != 0).then(|| {
        let usage = Usage {
            cpu: time(usage.ru_utime) + time(usage.ru_stime),
            // In KiB.
            memory: u64::try_from(usage.ru_maxrss).unwrap_or(0) * 1024,
        };
        (ExitStatus::from_raw(status), usage)
    }))
}

/// Makes a descriptor one whose reads and writes wait: for a child that has nothing else to do.
pub(crate) fn set_blocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) })?;
    // SAFETY: F_SETFL takes an integer and touches no memory.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags & !libc::O_NONBLOCK) })?;
    Ok(())
}
