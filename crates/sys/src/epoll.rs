//! Level-triggered registration in an epoll set: mio only registers edge-triggered, and a listener should be reported
//! again by each wait. Sources are passed by number, as mio takes them.

use std::io;
use std::os::fd::{AsFd, RawFd};

use rustix::event::epoll::{EventData, EventFlags, add, delete};

use crate::descriptors::borrow;

/// Adds `fd` to the epoll set, level-triggered, for EPOLLIN and EPOLLRDHUP. Events carry `token`.
pub fn add_level(epoll: impl AsFd, fd: RawFd, token: u64) -> io::Result<()> {
    Ok(add(epoll, borrow(fd), EventData::new_u64(token), EventFlags::IN | EventFlags::RDHUP)?)
}

/// Removes `fd` from the epoll set.
pub fn remove(epoll: impl AsFd, fd: RawFd) -> io::Result<()> {
    Ok(delete(epoll, borrow(fd))?)
}
