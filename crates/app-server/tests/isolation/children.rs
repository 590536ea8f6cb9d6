//! Which child processes there are, and waiting until they are gone.

use std::path::Path;
use std::time::Duration;

use event_loop::time;

use crate::client::Client;

/// Reads a response up to the line with the pid.
pub(crate) async fn process_of(client: &mut Client) -> u32 {
    let mut text = Vec::new();
    loop {
        if let fastcgi_server::client::Event::Stdout { data, .. } = client.event().await.unwrap() {
            text.extend_from_slice(&data);
        }
        let text = std::str::from_utf8(&text).unwrap();
        if let Some(line) = text.split("\r\n\r\n").nth(1).and_then(|body| body.split_once('\n')) {
            return line.0.parse().unwrap();
        }
    }
}

pub(crate) fn is_alive(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

pub(crate) async fn until_gone(process: u32) {
    while is_alive(process) {
        time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until all children have been reaped; only the test's own timeout limits this.
pub(crate) async fn until_no_children() {
    loop {
        let children = std::fs::read_to_string("/proc/self/task/self/children");
        let path = format!("/proc/self/task/{}/children", std::process::id());
        if children.or_else(|_| std::fs::read_to_string(path)).unwrap().trim().is_empty() {
            return;
        }
        time::sleep(Duration::from_millis(2)).await;
    }
}
