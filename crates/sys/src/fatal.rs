//! Fatal signals: SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT, handled on an alternate stack.
//!
//! The handler may run at any point, in the middle of `malloc` and with a corrupted heap. It calls the function
//! passed to [`catch`] with all signals blocked: if that crashes too, the kernel terminates the process. After it
//! returns, the signal has its default effect.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;

use rustix::process::{Signal, getpid, kill_process};

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
}

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
    let signal = FatalSignal {
        number,
        // SAFETY: for a fault, the kernel sets the address.
        address: is_fault.then(|| unsafe { (*info).si_addr() } as usize),
        stack: stack_pointer(context),
        from_outside: code == libc::SI_USER && sender != own.as_raw_pid(),
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
