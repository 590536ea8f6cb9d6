//! What the loop runs in.

use app_server::{Error, Settings, Transport};

use crate::report::Failure;

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

impl Runtime {
    /// Runs what serves.
    pub(crate) fn serve<T>(
        self,
        settings: &Settings,
        transport: &Transport,
        future: impl Future<Output = T>,
    ) -> Result<T, Error> {
        match self {
            Runtime::Bare => app_server::run(settings, transport, future),
            #[cfg(feature = "tokio")]
            Runtime::Tokio => app_server::run_in_tokio(settings, transport, future),
        }
    }

    /// Runs something for a command at a terminal.
    pub(crate) fn run<T>(self, future: impl Future<Output = T>) -> Result<T, Failure> {
        let done = match self {
            Runtime::Bare => event_loop::run(future),
            #[cfg(feature = "tokio")]
            Runtime::Tokio => event_loop::run_in_tokio(future),
        };
        done.map_err(Failure::refused)
    }
}
