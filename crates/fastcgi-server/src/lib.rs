//! FastCGI 1.0, both sides, as sans-IO state machines: bytes in, events out; responses in, bytes out.
//!
//! [`Connection`] is the application's end of one connection from a web server; [`client::Connection`] is
//! the web server's end, for tests, load generation and relays. Neither has a socket, a clock, a log or a
//! thread: the caller reads and writes, counts time and writes the log. Both have the same four families
//! of methods, to be called in this order:
//!
//! 1. **input**: `handle_input` with the bytes just read, then `poll_event` until it returns `None`;
//! 2. **commands**: `stdout`, `end_request` and so on, whenever there is something to send;
//! 3. **output**: `transmit` lends the slices to write, `transmitted` says how much was written;
//! 4. **getters**: what is active, what is unsent, whether the connection has to be closed.
//!
//! ```
//! use bytes::Bytes;
//! use fastcgi_server::{Connection, Event, Limits};
//!
//! let mut connection = Connection::new(Limits::default());
//! # let from_the_socket = {
//! #     use fastcgi_server::{client, RequestId, Role};
//! #     let id = RequestId::new(1).unwrap();
//! #     let mut web_server = client::Connection::new();
//! #     web_server.begin(id, Role::Responder, false);
//! #     web_server.params(id, [(&b"REQUEST_URI"[..], &b"/"[..])]);
//! #     web_server.params_end(id);
//! #     web_server.stdin_end(id);
//! #     web_server.take_unsent()
//! # };
//! connection.handle_input(from_the_socket);
//! while let Some(event) = connection.poll_event() {
//!     match event {
//!         Event::Request(request) => {
//!             let path = request.params.get(b"REQUEST_URI").unwrap_or(b"/").to_vec();
//!             connection.stdout_in_place(request.id, |out| {
//!                 out.extend_from_slice(b"Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n");
//!                 out.extend_from_slice(&path);
//!             });
//!             connection.end_request(request.id, 0);
//!         }
//!         Event::Failed(error) => eprintln!("{error}"),
//!         _ => {}
//!     }
//! }
//! let mut slices = [std::io::IoSlice::new(&[]); 4];
//! assert_eq!(connection.transmit(&mut slices), 1, "head, body and end records are one slice");
//! ```
//!
//! The path of the bytes through the files: `framing.rs` cuts the input into records (`record.rs`), the
//! connection (`connection.rs`) finds the request by id (`requests.rs`), `request_state.rs` says
//! which move that record is, and the result leaves as an [`Event`] (`event.rs`), with the
//! parameters (`pairs.rs`, `params.rs`) in one block. Commands write into `output.rs`,
//! messages through `one_line.rs`.
//! What is supported, and what happens in malformed conversations: `docs/fastcgi-support.md`.

#![forbid(unsafe_code)]

mod bodies;
pub mod client;
mod connection;
mod error;
mod event;
mod framing;
mod limits;
mod one_line;
mod output;
mod pairs;
mod params;
mod record;
mod request_state;
mod requests;

pub use bodies::{ProtocolStatus, Role};
pub use connection::Connection;
pub use error::{ConnectionError, Problem};
pub use event::{CloseWhen, Event, Refusal, Request};
pub use limits::Limits;
pub use one_line::one_line;
pub use params::{Pairs, Params};
pub use record::{Header, RecordType, RequestId};

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
