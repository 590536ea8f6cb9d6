//! Fatal signals: SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT, handled on an alternate stack.
//!
//! The handler may run at any point, in the middle of `malloc` and with a corrupted heap. It calls the function
//! passed to [`catch`] with all signals blocked: if that crashes too, the kernel terminates the process. After it
//! returns, the signal has its default effect.
//!
//! Only the thread that called [`catch`] has the alternate stack, and knows what is going on. A signal of another thread is
//! passed on to it, and that thread waits for the end.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicUsize, Ordering};

use rustix::process::{Signal, getpid, kill_process};
use rustix::thread::gettid;

use crate::alternate_stack;
use crate::signals::{
    FAULTS, PreviousAction, default_action, restore_action, set_info_action_blocking_all,
};

/// What the kernel reports about a fatal signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalSignal {
    /// Its number.
    pub number: c_int,
    /// The address of the fault, if the processor raised the signal.
    pub address: Option<usize>,
    /// The stack pointer at that moment, on x86-64 and AArch64.
    pub stack: Option<usize>,
    /// Whether another process sent it.
    pub from_outside: bool,
    /// Whether another thread than the one that called [`catch`] was hit.
    pub in_other_thread: bool,
}

/// The process and the thread that called [`catch`].
static OWNER: [AtomicI32; 2] = [const { AtomicI32::new(0) }; 2];

/// Whether a signal of another thread was passed on, and the address of its fault.
static IS_PASSED_ON: AtomicBool = AtomicBool::new(false);
static PASSED_ADDRESS: AtomicUsize = AtomicUsize::new(0);

/// What the handler calls. Set once per process.
static ON_FATAL: OnceLock<fn(&FatalSignal)> = OnceLock::new();

/// Keeps the handlers installed.
#[derive(Debug)]
pub struct Guard {
    previous: Vec<(c_int, PreviousAction)>,
}

/// Catches fatal signals until the guard is dropped: `on_fatal` is called on the alternate stack. It must be
/// async-signal-safe, and need not return. All calls in a process use the function of the first one.
///
/// # Errors
///
/// If there is no memory for the alternate stack.
pub fn catch(on_fatal: fn(&FatalSignal)) -> io::Result<Guard> {
    alternate_stack::make()?;
    ON_FATAL.get_or_init(|| on_fatal);
    OWNER[0].store(getpid().as_raw_pid(), Ordering::Relaxed);
    OWNER[1].store(gettid().as_raw_pid(), Ordering::Relaxed);
    // Grows signal by signal, so that after a failure the drop restores exactly what was changed.
    let mut guard = Guard { previous: Vec::with_capacity(FAULTS.len()) };
    for signal in FAULTS {
        let previous = set_info_action_blocking_all(signal, handle, libc::SA_ONSTACK)?;
        guard.previous.push((signal, previous));
    }
    Ok(guard)
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (signal, previous) in &self.previous {
            let restored = restore_action(*signal, previous);
            debug_assert!(restored.is_ok(), "signal {signal} was not restored: {restored:?}");
        }
    }
}

extern "C" fn handle(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a complete siginfo_t to a handler with SA_SIGINFO.
    let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
    let is_fault = code > 0 && number != libc::SIGABRT;
    let own = getpid();
    // SAFETY: for a fault, the kernel sets the address.
    let address = is_fault.then(|| unsafe { (*info).si_addr() } as usize);
    let [process, thread] = [&OWNER[0], &OWNER[1]].map(|id| id.load(Ordering::Relaxed));
    // A forked child has threads of its own.
    if process == own.as_raw_pid() && thread != gettid().as_raw_pid() {
        pass_on(number, address, thread);
    }
    let in_other_thread = code == libc::SI_TKILL && IS_PASSED_ON.load(Ordering::Acquire);
    let passed = Some(PASSED_ADDRESS.load(Ordering::Relaxed)).filter(|passed| *passed != 0);
    let signal = FatalSignal {
        number,
        address: if in_other_thread { passed } else { address },
        stack: stack_pointer(context).filter(|_| !in_other_thread),
        from_outside: code == libc::SI_USER && sender != own.as_raw_pid(),
        in_other_thread,
    };
    if let Some(on_fatal) = ON_FATAL.get() {
        on_fatal(&signal);
    }
    // The signal has its default effect once the return unblocks it: a fault is raised again, others are sent again.
    // Neither can fail: it is one of the five signals, and the process is ours.
    let _ = default_action(number);
    if !is_fault && let Some(signal) = Signal::from_named_raw(number) {
        let _ = kill_process(own, signal);
    }
}

/// Lets the thread that called [`catch`] handle the signal, and waits for the end of the process, which that is. Returns if
/// there is no such thread any more.
fn pass_on(number: c_int, address: Option<usize>, thread: i32) {
    PASSED_ADDRESS.store(address.unwrap_or(0), Ordering::Relaxed);
    IS_PASSED_ON.store(true, Ordering::Release);
    // SAFETY: takes numbers.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, getpid().as_raw_pid(), thread, number) };
    if sent != 0 {
        return;
    }
    loop {
        // All signals are blocked in the handler, so it does not even return.
        // SAFETY: takes nothing.
        unsafe { libc::pause() };
    }
}

/// Returns the stack pointer at the time of the signal, on x86-64 and AArch64.
fn stack_pointer(context: *mut c_void) -> Option<usize> {
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel passes a complete ucontext_t to a handler with SA_SIGINFO.
    let pointer = Some(unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] } as usize);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel passes a complete ucontext_t to a handler with SA_SIGINFO.
    let pointer = Some(unsafe { (*context).uc_mcontext.sp } as usize);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let pointer = {
        let _ = context;
        None
    };
    pointer
}
