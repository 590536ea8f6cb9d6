//! What the loop runs in.

/// What the one thread of a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// Our loop alone: three system calls for a request. Waiting is done with the crate `event-loop`.
    Bare,
    /// Our loop in a tokio `current_thread` runtime: for what uses tokio's timers, its sockets or `tokio::spawn`. Costs three
    /// more system calls per wake-up. What needs more threads (`spawn_blocking`, `tokio::fs`) fails where hosts refuse
    /// threads.
    #[cfg(feature = "tokio")]
    Tokio,
}

impl Default for Runtime {
    #[cfg(feature = "tokio")]
    fn default() -> Self {
        Runtime::Tokio
    }

    #[cfg(not(feature = "tokio"))]
    fn default() -> Self {
        Runtime::Bare
    }
}
