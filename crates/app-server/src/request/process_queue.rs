//! How many requests may be isolated at once, and which is next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Permits for isolated requests, granted in order of arrival.
#[derive(Clone)]
pub(crate) struct ProcessQueue(Rc<Inner>);

struct Inner {
    free: Cell<usize>,
    next_ticket: Cell<u64>,
    /// Waiting requests, in order.
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
}

impl ProcessQueue {
    pub(crate) fn new(count: usize) -> Self {
        ProcessQueue(Rc::new(Inner {
            free: Cell::new(count),
            next_ticket: Cell::new(0),
            waiting: RefCell::default(),
        }))
    }

    /// Waits for a permit.
    pub(crate) async fn enter(&self) -> ProcessPermit {
        let mut waiting = Waiter::new(self.clone());
        poll_fn(|context| waiting.poll_permit(context)).await;
        ProcessPermit(self.clone())
    }

    /// Wakes the first in the queue, if there is a permit.
    fn call_next(&self) {
        if self.0.free.get() == 0 {
            return;
        }
        let first = self.0.waiting.borrow_mut().front_mut().and_then(|(_, waker)| waker.take());
        if let Some(waker) = first {
            waker.wake();
        }
    }
}

/// A permit, until it is dropped.
pub(crate) struct ProcessPermit(ProcessQueue);

impl Drop for ProcessPermit {
    fn drop(&mut self) {
        let free = &self.0.0.free;
        free.set(free.get() + 1);
        self.0.call_next();
    }
}

/// A request that waits. One that gives up makes way for the next.
struct Waiter {
    queue: ProcessQueue,
    ticket: u64,
}

impl Waiter {
    fn new(queue: ProcessQueue) -> Self {
        let ticket = queue.0.next_ticket.get();
        queue.0.next_ticket.set(ticket + 1);
        queue.0.waiting.borrow_mut().push_back((ticket, None));
        Waiter { queue, ticket }
    }

    fn poll_permit(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Inner { free, waiting, .. } = &*self.queue.0;
        let mut waiting = waiting.borrow_mut();
        if free.get() > 0 && waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket) {
            free.set(free.get() - 1);
            // The drop removes this one from the queue and wakes the next.
            return Poll::Ready(());
        }
        let mine = waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket);
        if let Some((_, waker)) = mine {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.queue.0.waiting.borrow_mut().retain(|(ticket, _)| *ticket != self.ticket);
        self.queue.call_next();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    #[test]
    fn permits_are_granted_in_order_and_returned() {
        let queue = ProcessQueue::new(2);
        let mut context = Context::from_waker(Waker::noop());
        let mut take = || match pin!(queue.enter()).poll(&mut context) {
            Poll::Ready(permit) => Some(permit),
            Poll::Pending => None,
        };
        let (one, two) = (take().unwrap(), take().unwrap());
        assert!(take().is_none(), "one that gave up is still queued");
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(queue.enter());
        let mut second = Box::pin(queue.enter());
        let mut third = pin!(queue.enter());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert!(third.as_mut().poll(&mut context).is_pending());
        drop(one);
        assert!(third.as_mut().poll(&mut context).is_pending(), "it is not its turn");
        assert!(second.as_mut().poll(&mut context).is_pending(), "it is not its turn");
        let Poll::Ready(_first) = first.as_mut().poll(&mut context) else { panic!() };
        drop(second);
        drop(two);
        assert!(third.as_mut().poll(&mut context).is_ready());
    }
}
