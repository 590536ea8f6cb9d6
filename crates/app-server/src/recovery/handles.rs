//! What the request path holds, so that its requests get replies if the process does not survive: a handle per
//! connection, a guard per request, and a mark to run its code with.
//!
//! Without installed handlers none of this does anything. The cost is a few stores per request.

use std::os::fd::{AsRawFd, BorrowedFd};

use sys::interval;

use super::crash_plan::CRASH_PLAN;
use super::panics::Symbolize;
use super::tables::{CONNECTIONS, ConnectionRow, InputState, REQUESTS, RUNNING, ReplyFormat};

/// The row of an open connection. Drop it before the socket is closed.
///
/// Transports that serve several requests on a connection hold one in a [`FastCgiGuard`](super::FastCgiGuard) or a
/// [`HttpGuard`](super::HttpGuard).
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    index: Option<u32>,
}

impl ConnectionGuard {
    /// Registers a connection that is idle. Does nothing unless the handlers are installed and a row is free.
    pub(crate) fn register(descriptor: BorrowedFd<'_>, format: ReplyFormat) -> ConnectionGuard {
        let index = if CRASH_PLAN.is_installed() { CONNECTIONS.take() } else { None };
        if let Some(index) = index {
            CONNECTIONS.row(index).fill(descriptor.as_raw_fd(), format);
        }
        ConnectionGuard { index }
    }

    /// Registers a connection whose request has been answered: it is closed once the rest of its input is read.
    pub(crate) fn register_answered(
        descriptor: BorrowedFd<'_>,
        format: ReplyFormat,
    ) -> ConnectionGuard {
        let guard = ConnectionGuard::register(descriptor, format);
        if let Some(row) = guard.row() {
            row.set_input(InputState::Unsettled);
        }
        guard
    }

    pub(super) fn row(&self) -> Option<&'static ConnectionRow> {
        self.index.map(|index| CONNECTIONS.row(index))
    }

    /// Whether the connection has a row.
    #[inline]
    pub(crate) fn is_registered(&self) -> bool {
        self.index.is_some()
    }

    /// Records that bytes were sent over a transport without records: HTTP and CGI.
    #[inline]
    pub(crate) fn sent(&self, bytes: usize) {
        if let Some(row) = self.row() {
            row.set_sent(row.sent() + bytes as u64);
        }
    }

    /// Registers a request: its id on the connection, the part it is for, its method and path (without the query,
    /// which may contain secrets).
    pub(crate) fn register_request(
        &self,
        id: u16,
        part: Option<&str>,
        method: &str,
        path: &str,
    ) -> RequestGuard {
        let Some(connection) = self.index else { return RequestGuard { index: None } };
        let Some(index) = REQUESTS.take() else { return RequestGuard { index: None } };
        REQUESTS.row(index).fill(connection, id, part, method, path);
        // `watchdog.rs` stops the timer while there are no requests.
        if interval::can_be_armed() {
            interval::arm();
        }
        RequestGuard { index: Some(index) }
    }

    /// Hides the connection from the handler, because its socket is about to be closed before the value is dropped.
    pub(crate) fn unregister(&self) {
        if let Some(row) = self.row() {
            row.hide();
        }
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            CONNECTIONS.row(index).hide();
            CONNECTIONS.release(index);
        }
    }
}

/// The row of a request in flight. Drop it when the last byte of the response has been sent, or the response is no
/// longer wanted.
#[derive(Debug)]
pub(crate) struct RequestGuard {
    index: Option<u32>,
}

impl RequestGuard {
    /// The mark to run the request's code with.
    pub(crate) fn mark(&self) -> Mark {
        Mark { number: self.index.map_or(0, |index| index + 1), symbolize: Symbolize::InChild }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if let Some(index) = self.index {
            REQUESTS.row(index).hide();
            REQUESTS.release(index);
        }
    }
}

/// Identifies the request whose code is running: if that code crashes or stalls, this request is the culprit.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    /// The request's row + 1; 0 if it has none.
    number: u32,
    symbolize: Symbolize,
}

impl Mark {
    /// The mark of a request after which the process exits.
    #[must_use]
    pub(crate) fn of_last_request(self) -> Mark {
        Mark { symbolize: Symbolize::Here, ..self }
    }

    /// Where the backtraces of the request's panics are to be symbolized.
    pub(crate) fn symbolize(self) -> Symbolize {
        self.symbolize
    }

    /// Records that the response follows the first `bytes` that the connection sends in total.
    #[inline]
    pub(crate) fn response_follows(self, bytes: u64) {
        if let Some(index) = self.number.checked_sub(1) {
            REQUESTS.row(index).set_follows(bytes);
        }
    }

    /// Runs the request's code; the mark that was running before is restored even after a panic.
    #[inline]
    pub(crate) fn run<T>(self, code: impl FnOnce() -> T) -> T {
        struct Leave(u32);
        impl Drop for Leave {
            fn drop(&mut self) {
                RUNNING.leave(self.0);
            }
        }
        let _leave = Leave(RUNNING.enter(self.number));
        code()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_registered_without_installed_handlers() {
        let (one, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let connection =
            ConnectionGuard::register(std::os::fd::AsFd::as_fd(&one), ReplyFormat::Http);
        let request = connection.register_request(0, Some("part"), "GET", "/");
        request.mark().response_follows(1);
        assert!(!connection.is_registered());
        assert_eq!(REQUESTS.taken(), 0);
        assert_eq!(request.mark().run(|| 5), 5);
    }
}
