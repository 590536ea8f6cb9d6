//! The signals there are.

use std::fmt;

/// The signals that can be listened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// SIGTERM: please end.
    Terminate,
    /// SIGHUP: the terminal is gone; for servers by custom: read the configuration again.
    Hangup,
    /// SIGINT: Ctrl+C.
    Interrupt,
    /// SIGQUIT: Ctrl+\.
    Quit,
    /// SIGUSR1: free for use; mod_fcgid's way to ask for a graceful end.
    User1,
    /// SIGUSR2: free for use.
    User2,
    /// SIGALRM: a timer of the process.
    Alarm,
    /// SIGCHLD: a child process has ended. The crate `process` listens to it by itself.
    Child,
    /// SIGWINCH: the terminal has another size; Apache's way to ask for a graceful stop.
    WindowChange,
}

/// All of them, in the order in which kept ones are received.
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

    /// Its bit in a mask of signals.
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
