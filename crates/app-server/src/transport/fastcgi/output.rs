//! The output of a FastCGI connection, which all its requests write to.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use bytes::Bytes;
use fastcgi_server::{Connection as State, Limits, RequestId};
use http::response;

use crate::recovery::Mark;
use crate::transport::respond::{self, ResponseSink};

/// What the requests of a connection share with it: the protocol state, which holds the output.
pub(super) struct Link {
    pub(super) protocol: RefCell<State>,
    /// Wakes the connection to send.
    pub(super) connection: RefCell<Option<Waker>>,
    /// Whether the connection is running and will notice by itself what a request does now.
    pub(super) is_running: Cell<bool>,
    /// Requests that wait for room in the output.
    writers: RefCell<Vec<Waker>>,
    /// Unsent bytes at which requests wait.
    pub(super) response_bytes: usize,
    /// A response was truncated and nothing else is in flight: only closing the connection signals it.
    pub(super) broken: Cell<bool>,
    /// Whether the peer is mod_fcgid.
    is_behind_mod_fcgid: bool,
}

/// The STDOUT stream of one request.
pub(super) struct Stdout {
    pub(super) link: Rc<Link>,
    pub(super) id: RequestId,
    pub(super) mark: Mark,
}

impl ResponseSink for Stdout {
    fn begin(&self, head: &response::Parts, length: Option<u64>, first: Bytes) -> bool {
        let mut shared = None;
        let mut protocol = self.link.protocol.borrow_mut();
        self.mark.response_follows(protocol.queued());
        let mut active = protocol.stdout_in_place(self.id, |output| {
            shared = respond::write_beginning(head, length, first, output);
        });
        if let Some(data) = shared {
            active = protocol.stdout(self.id, data);
        }
        drop(protocol);
        self.link.changed();
        active
    }

    fn data(&self, data: Bytes) -> bool {
        let active = self.link.protocol.borrow_mut().stdout(self.id, data);
        self.link.changed();
        active
    }

    async fn writable(&self) {
        poll_fn(|context| {
            if self.link.protocol.borrow().unsent() < self.link.response_bytes {
                return Poll::Ready(());
            }
            self.link.writers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn end(&self) {
        self.link.protocol.borrow_mut().end_request(self.id, 0);
        self.link.changed();
    }

    /// Web servers ignore the application status, so only closing the connection signals the truncation;
    /// unless that would truncate other responses too, or make mod_fcgid kill the process.
    fn break_off(&self) {
        let is_only = self.link.protocol.borrow().active_requests() == 1;
        if is_only && !self.link.is_behind_mod_fcgid {
            self.link.broken.set(true);
        } else {
            self.link.protocol.borrow_mut().end_request(self.id, 1);
        }
        self.link.changed();
    }
}

impl Link {
    /// `response_bytes`: the unsent bytes at which requests wait.
    pub(super) fn new(
        limits: Limits,
        response_bytes: usize,
        is_behind_mod_fcgid: bool,
    ) -> Rc<Link> {
        Rc::new(Link {
            protocol: RefCell::new(State::new(limits)),
            connection: RefCell::new(None),
            is_running: Cell::new(false),
            writers: RefCell::new(Vec::new()),
            response_bytes,
            broken: Cell::new(false),
            is_behind_mod_fcgid,
        })
    }

    fn changed(&self) {
        if !self.is_running.get()
            && let Some(connection) = &*self.connection.borrow()
        {
            connection.wake_by_ref();
        }
    }

    pub(super) fn wake_writers(&self) {
        let writers = std::mem::take(&mut *self.writers.borrow_mut());
        writers.into_iter().for_each(Waker::wake);
    }
}
