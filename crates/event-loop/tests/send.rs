//! Everything that can be awaited is `Send`, so that handlers that hold it across an await are, as axum
//! requires. The compiler checks this file; there is nothing to run.

use std::rc::Rc;
use std::time::Duration;

use event_loop::net::{Address, Listener, Stream};
use event_loop::signals::Signals;
use event_loop::time::{HyperTimer, Sleep, Timeout};
use event_loop::{Panic, Task, pipe};

fn is_send<T: Send>() {}
fn is_sync<T: Sync>() {}
fn is_unpin<T: Unpin>() {}
fn value_is_send(_: impl Send) {}

#[test]
fn handles_are_send() {
    is_send::<Sleep>();
    is_sync::<Sleep>();
    is_unpin::<Sleep>();
    is_send::<Timeout<Sleep>>();
    is_send::<HyperTimer>();
    is_sync::<HyperTimer>();
    is_send::<Stream>();
    is_unpin::<Stream>();
    is_send::<Listener>();
    is_send::<pipe::Reader>();
    is_send::<pipe::Writer>();
    is_send::<Signals>();
    is_send::<Panic>();
    // Whatever the output is, because the handle does not carry it to another thread.
    is_send::<Task<Rc<()>>>();
    is_unpin::<Task<Rc<()>>>();
}

#[test]
fn futures_that_hold_them_are_send() {
    fn address() -> Address {
        "tcp:127.0.0.1:0".parse().unwrap()
    }
    value_is_send(event_loop::yield_now());
    value_is_send(Stream::connect(&address()));
    value_is_send(async {
        let mut listener = Listener::bind(&address())?;
        let (stream, _) = listener.accept().await?;
        event_loop::time::sleep(Duration::ZERO).await;
        drop(stream);
        std::io::Result::Ok(())
    });
    value_is_send(async {
        let mut signals = event_loop::signals::listen(&[])?;
        std::io::Result::Ok(signals.recv().await)
    });
    value_is_send(async {
        let task: Task<()> = event_loop::spawn(async {});
        task.outcome().await
    });
}
