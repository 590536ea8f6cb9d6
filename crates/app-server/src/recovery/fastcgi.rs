//! What the state of a FastCGI connection means for its peer when the process cannot continue: whether it can be
//! handed over, which request has arrived in part, which record is partly sent.

use std::cell::Cell;
use std::os::fd::BorrowedFd;

use fastcgi_server::{CloseWhen, Connection as Protocol};

use super::handles::ConnectionGuard;
use super::tables::{InputState, ReplyFormat};

/// The handle of a FastCGI connection. Drop it before the socket is closed.
#[derive(Debug)]
pub(crate) struct FastCgiGuard {
    connection: ConnectionGuard,
    /// Whether the connection is recorded as settled and nothing has been read since.
    is_settled: Cell<bool>,
}

impl FastCgiGuard {
    pub(crate) fn register(descriptor: BorrowedFd<'_>) -> FastCgiGuard {
        FastCgiGuard {
            connection: ConnectionGuard::register(descriptor, ReplyFormat::FastCgi),
            is_settled: Cell::new(true),
        }
    }

    /// To register requests with.
    pub(crate) fn connection(&self) -> &ConnectionGuard {
        &self.connection
    }

    /// Call after a write.
    #[inline]
    pub(crate) fn sent(&self, protocol: &Protocol) {
        if let Some(row) = self.connection.row() {
            row.owe(protocol.partial_record());
            row.set_sent(protocol.sent());
        }
    }

    /// Call after a read.
    #[inline]
    pub(crate) fn received(&self) {
        self.is_settled.set(false);
    }

    /// Call when a request is about to run, and when everything read has been handled. `complete` returns how many
    /// requests in flight have arrived in full and leave the connection open.
    #[inline]
    pub(crate) fn record_input(&self, protocol: &Protocol, complete: impl FnOnce() -> usize) {
        if self.is_settled.get() {
            return;
        }
        let Some(row) = self.connection.row() else { return };
        let is_settled = protocol.is_between_records()
            && protocol.close_when() == CloseWhen::KeepOpen
            // Data of any other request may have arrived already.
            && complete() == protocol.active_requests();
        self.is_settled.set(is_settled);
        row.set_input(match protocol.arriving_request() {
            _ if is_settled => InputState::Settled,
            Some(id) => InputState::Arriving(id.get()),
            None => InputState::Unsettled,
        });
    }

    /// Hides the connection from the handler, because its socket is about to be closed or handed over.
    pub(crate) fn unregister(&self) {
        self.connection.unregister();
    }
}
