//! How many exchanges may be isolated at once, and who is next.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The places for isolated exchanges, given in the order of asking.
#[derive(Clone)]
pub(crate) struct Places(Rc<Inner>);

struct Inner {
    free: Cell<usize>,
    next_ticket: Cell<u64>,
    /// Who waits, in order.
    waiting: RefCell<VecDeque<(u64, Option<Waker>)>>,
}

impl Places {
    pub(crate) fn new(count: usize) -> Self {
        Places(Rc::new(Inner {
            free: Cell::new(count),
            next_ticket: Cell::new(0),
            waiting: RefCell::default(),
        }))
    }

    /// Waits for a place.
    pub(crate) async fn enter(&self) -> Place {
        let mut waiting = Waiting::new(self.clone());
        poll_fn(|context| waiting.poll_place(context)).await;
        Place(self.clone())
    }

    /// Wakes who is first, if there is a place.
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

/// A place that is taken, until it is dropped.
pub(crate) struct Place(Places);

impl Drop for Place {
    fn drop(&mut self) {
        let free = &self.0.0.free;
        free.set(free.get() + 1);
        self.0.call_next();
    }
}

/// One who waits. Who gives up makes room for the next.
struct Waiting {
    places: Places,
    ticket: u64,
}

impl Waiting {
    fn new(places: Places) -> Self {
        let ticket = places.0.next_ticket.get();
        places.0.next_ticket.set(ticket + 1);
        places.0.waiting.borrow_mut().push_back((ticket, None));
        Waiting { places, ticket }
    }

    fn poll_place(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Inner { free, waiting, .. } = &*self.places.0;
        let mut waiting = waiting.borrow_mut();
        if free.get() > 0 && waiting.front().is_some_and(|(ticket, _)| *ticket == self.ticket) {
            free.set(free.get() - 1);
            // The drop takes us out of the queue and calls the next.
            return Poll::Ready(());
        }
        let mine = waiting.iter_mut().find(|(ticket, _)| *ticket == self.ticket);
        if let Some((_, waker)) = mine {
            *waker = Some(context.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.places.0.waiting.borrow_mut().retain(|(ticket, _)| *ticket != self.ticket);
        self.places.call_next();
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use super::*;

    #[test]
    fn places_are_given_in_order_and_given_back() {
        let places = Places::new(2);
        let mut context = Context::from_waker(Waker::noop());
        let mut take = || match pin!(places.enter()).poll(&mut context) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        };
        let (one, two) = (take().unwrap(), take().unwrap());
        assert!(take().is_none(), "and who gave up waits no longer");
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(places.enter());
        let mut second = Box::pin(places.enter());
        let mut third = pin!(places.enter());
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
