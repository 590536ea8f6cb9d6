//! Sockets: listeners and streams, unix and TCP.
//!
//! `net/address.rs` has addresses, `net/listener.rs` accepts connections, `net/stream.rs` reads and writes them,
//! `net/socket.rs` creates and queries sockets. When to make which system call on a stream is decided in `source.rs`.

mod address;
mod listener;
pub(crate) mod socket;
mod stream;

pub use address::{Address, AddressError};
pub use listener::Listener;
pub use stream::Stream;
