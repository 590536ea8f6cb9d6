//! The signals that can be listened for.

use std::fmt;

/// A signal that can be listened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM: terminate.
    Terminate,
    /// SIGHUP: the terminal was closed; for servers, by convention: reload.
    Hangup,
    /// SIGINT: Ctrl+C.
    Interrupt,
    /// SIGQUIT: Ctrl+\.
    Quit,
    /// SIGUSR1: application-defined; sent by mod_fcgid for a graceful shutdown.
    User1,
    /// SIGUSR2: application-defined.
    User2,
    /// SIGALRM: the process's interval timer.
    Alarm,
    /// SIGCHLD: a child process has exited. The crate `process` listens for it itself.
    Child,
    /// SIGWINCH: the terminal was resized; sent by Apache for a graceful shutdown.
    WindowChange,
}

/// All signals, in the order in which pending ones are received.
pub(crate) const ALL: [Signal; 9] = [
    Signal::Terminate,
    Signal::Hangup,
    Signal::Interrupt,
    Signal::Quit,
    Signal::User1,
    Signal::User2,
    Signal::Alarm,
    Signal::Child,
    Signal::WindowChange,
];

impl Signal {
    /// Returns the signal's number on this system.
    pub fn number(self) -> i32 {
        match self {
            Signal::Terminate => libc::SIGTERM,
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Quit => libc::SIGQUIT,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
            Signal::Alarm => libc::SIGALRM,
            Signal::Child => libc::SIGCHLD,
            Signal::WindowChange => libc::SIGWINCH,
        }
    }

    /// Returns its bit in a mask of signals.
    pub(crate) fn bit(self) -> u32 {
        1 << self.number()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Signal::Terminate => "SIGTERM",
            Signal::Hangup => "SIGHUP",
            Signal::Interrupt => "SIGINT",
            Signal::Quit => "SIGQUIT",
            Signal::User1 => "SIGUSR1",
            Signal::User2 => "SIGUSR2",
            Signal::Alarm => "SIGALRM",
            Signal::Child => "SIGCHLD",
            Signal::WindowChange => "SIGWINCH",
        })
    }
}
