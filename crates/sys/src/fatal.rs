//! Fatal signals: SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT, handled on a stack of their own.
//!
//! The handler runs at any moment, in the middle of `malloc` and on a broken heap. What it does is decided by
//! the function that [`catch`] is given; all signals are blocked meanwhile: should it crash itself, the kernel
//! ends the process. When it returns, the signal does what it does by default.

use std::ffi::{c_int, c_void};
use std::io;
use std::sync::OnceLock;

use crate::alternate_stack;
use crate::signals::{PreviousAction, restore_action, set_info_action_blocking_all};

const SIGNALS: [c_int; 5] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT];

/// What the kernel told about a fatal signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FatalSignal {
    /// Its number.
    pub number: c_int,
    /// Which address the code wanted to use, if the signal is the processor's.
    pub address: Option<usize>,
    /// Where the stack ended when it came, on processors that are known here.
    pub stack: Option<usize>,
    /// Another process sent it.
    pub from_outside: bool,
}

/// What to do. Set once a process.
static ON_FATAL: OnceLock<fn(&FatalSignal)> = OnceLock::new();

/// Keeps the handlers installed.
#[derive(Debug)]
pub struct Guard {
    previous: Vec<(c_int, PreviousAction)>,
}

/// Catches fatal signals from now until the guard is dropped: `on_fatal` is called, on the alternate stack. It
/// must be async-signal-safe, and may not return. A process calls one function only: the first that is given.
///
/// # Errors
///
/// When there is no memory for the stack.
pub fn catch(on_fatal: fn(&FatalSignal)) -> io::Result<Guard> {
    alternate_stack::make()?;
    ON_FATAL.get_or_init(|| on_fatal);
    // Grows signal by signal, so that a failure gives back exactly what was taken.
    let mut guard = Guard { previous: Vec::with_capacity(SIGNALS.len()) };
    for signal in SIGNALS {
        let previous = set_info_action_blocking_all(signal, handle, libc::SA_ONSTACK)?;
        guard.previous.push((signal, previous));
    }
    Ok(guard)
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (signal, previous) in &self.previous {
            let restored = restore_action(*signal, previous);
            debug_assert!(restored.is_ok(), "signal {signal} was not given back: {restored:?}");
        }
    }
}

extern "C" fn handle(number: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel gives a whole siginfo_t to a handler with SA_SIGINFO.
    let (code, sender) = unsafe { ((*info).si_code, (*info).si_pid()) };
    let is_fault = code > 0 && number != libc::SIGABRT;
    // SAFETY: getpid takes nothing and cannot fail.
    let own = unsafe { libc::getpid() };
    let signal = FatalSignal {
        number,
        // SAFETY: of a fault the kernel tells the address.
        address: is_fault.then(|| unsafe { (*info).si_addr() } as usize),
        stack: stack_pointer(context),
        from_outside: code == libc::SI_USER && sender != own,
    };
    if let Some(on_fatal) = ON_FATAL.get() {
        on_fatal(&signal);
    }
    // Still here: the signal does what it does by default, when it is unblocked by the return.
    // SAFETY: signal-safe; SIG_DFL is a valid action, and the process is ours.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        if !is_fault {
            libc::kill(own, number);
        }
    }
}

/// Where the stack ended when the signal came, on processors that are known here.
fn stack_pointer(context: *mut c_void) -> Option<usize> {
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel gives a whole ucontext_t to a handler with SA_SIGINFO.
    let pointer = Some(unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] } as usize);
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the kernel gives a whole ucontext_t to a handler with SA_SIGINFO.
    let pointer = Some(unsafe { (*context).uc_mcontext.sp } as usize);
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let pointer = {
        let _ = context;
        None
    };
    pointer
}
