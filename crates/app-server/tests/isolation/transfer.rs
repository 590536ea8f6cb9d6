//! Bytes to and from a server under test, beyond what `client.rs` does.

use std::future::poll_fn;
use std::io::IoSlice;
use std::task::Poll;

use bytes::BytesMut;
use event_loop::net::Stream;

use crate::client::{Server, raw_request};

pub(crate) const MIB_64: usize = 64 << 20;

pub(crate) fn pattern(at: usize) -> u8 {
    (at / 4096 % 251) as u8
}

/// Sends a head and a body, and reads the response at the same time.
pub(crate) async fn both_ways(stream: &mut Stream, head: &[u8], length: usize) -> Vec<u8> {
    let mut unsent = BytesMut::from(head);
    let mut made = 0;
    let (mut input, mut response) = (BytesMut::new(), Vec::new());
    poll_fn(|context| {
        loop {
            let mut moved = false;
            if unsent.is_empty() && made < length {
                let end = (made + 65_536).min(length);
                unsent.extend((made..end).map(pattern));
                made = end;
            }
            if !unsent.is_empty() {
                let slices = [IoSlice::new(&unsent)];
                if let Poll::Ready(sent) = stream.poll_write_vectored(context, &slices) {
                    let _ = unsent.split_to(sent.unwrap());
                    moved = true;
                }
            }
            input.reserve(65_536);
            match stream.poll_read_into(context, &mut input) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {
                    response.extend_from_slice(&input.split());
                    moved = true;
                }
                Poll::Pending => {}
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await;
    response
}

pub(crate) async fn http_get(server: &Server, path: &str) -> String {
    let mut stream = server.connect_raw().await;
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    raw_request(&mut stream, request.as_bytes()).await
}
