//! What happens on an HTTP connection, as far as it matters when the process cannot continue: whether a request has
//! arrived, and until when its response is owed.

use std::cell::{Cell, RefCell};
use std::os::fd::BorrowedFd;

use super::handles::{ConnectionGuard, Mark, RequestGuard};
use super::tables::{InputState, ReplyFormat};

/// The handle of an HTTP connection.
#[derive(Debug)]
pub(crate) struct HttpGuard {
    connection: ConnectionGuard,
    /// The last request, until its response is sent.
    request: RefCell<Option<RequestGuard>>,
    /// hyper has the whole response; with its next flush, all of it is sent.
    response_is_complete: Cell<bool>,
}

impl HttpGuard {
    pub(crate) fn register(descriptor: BorrowedFd<'_>) -> HttpGuard {
        HttpGuard {
            connection: ConnectionGuard::register(descriptor, ReplyFormat::Http),
            request: RefCell::default(),
            response_is_complete: Cell::new(false),
        }
    }

    /// To register requests with.
    pub(crate) fn connection(&self) -> &ConnectionGuard {
        &self.connection
    }

    /// Call after a read.
    pub(crate) fn received(&self) {
        if let Some(row) = self.connection.row()
            && self.request.borrow().is_none()
        {
            // HTTP has no ids; any will do.
            row.set_input(InputState::Arriving(1));
        }
    }

    /// Call when the head of a request has arrived. `is_whole`: it has no body. `is_blocked`: the rest of the previous
    /// response has yet to be sent, so this one counts as started.
    pub(crate) fn begin(&self, request: RequestGuard, is_whole: bool, is_blocked: bool) -> Mark {
        let mark = request.mark();
        if let Some(row) = self.connection.row() {
            mark.response_follows(if is_blocked { 0 } else { row.sent() });
            row.set_input(if is_whole { InputState::Settled } else { InputState::Unsettled });
        }
        self.response_is_complete.set(false);
        self.request.replace(Some(request));
        mark
    }

    /// Call after a write.
    pub(crate) fn sent(&self, bytes: usize) {
        self.connection.sent(bytes);
    }

    /// Call when hyper has the end of the response.
    pub(crate) fn complete_response(&self) {
        self.response_is_complete.set(true);
    }

    /// Call when nothing waits to be sent.
    pub(crate) fn flushed(&self) {
        if self.response_is_complete.replace(false) {
            self.request.replace(None);
        }
    }

    /// Hides the connection from the handler, because its socket is about to be closed before the value is dropped.
    pub(crate) fn unregister(&self) {
        self.connection.unregister();
    }
}
