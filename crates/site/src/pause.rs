//! Waiting without blocking anybody: by the loop's timer where there is a loop.

use std::time::Duration;

/// Waits. Where no loop runs (a command at the terminal, a test) nobody else is served, so the thread sleeps.
pub(crate) async fn pause(length: Duration) {
    if event_loop::is_running() {
        event_loop::time::sleep(length).await;
    } else {
        std::thread::sleep(length);
    }
}
