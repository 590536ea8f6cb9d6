//! Sockets: listeners and streams, unix and TCP alike.
//!
//! `net/address.rs` says where, `net/listener.rs` takes connections, `net/stream.rs` reads and writes them,
//! `net/socket.rs` makes and asks them.
//! When to ask the kernel what is decided in `source.rs` for streams. No protocol is known here.

mod address;
mod listener;
pub(crate) mod socket;
mod stream;

pub use address::{Address, AddressError};
pub use listener::Listener;
pub use stream::Stream;
