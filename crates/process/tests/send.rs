//! Children can be awaited in handlers that have to be `Send`, as axum requires. The compiler checks this file;
//! there is nothing to run.

use process::{Child, Command, Computation};

fn is_send<T: Send>() {}
fn value_is_send(_: impl Send) {}

#[test]
fn handles_and_their_futures_are_send() {
    is_send::<Command>();
    is_send::<Child>();
    is_send::<Computation>();
    value_is_send(async {
        let mut child = Command::new("true").spawn()?;
        child.wait().await?;
        Command::new("true").output(10).await
    });
}
