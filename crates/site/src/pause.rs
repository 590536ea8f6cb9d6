//! Waiting without blocking the event loop.

use std::time::Duration;

/// Waits, by the loop's timer. Without a loop (in a command at the terminal, or a test), the thread sleeps.
pub(crate) async fn pause(length: Duration) {
    if event_loop::is_running() {
        event_loop::time::sleep(length).await;
    } else {
        std::thread::sleep(length);
    }
}
