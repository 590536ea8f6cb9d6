//! The poll set, level-triggered: mio registers edge-triggered alone, and a listener is asked again in each
//! wait. Descriptors come by number, as mio keeps them.

use std::io;
use std::os::fd::RawFd;

use crate::errno::check;

/// Adds `fd` to the poll set, level-triggered, for reading and for the news that it was shut down. Events
/// carry `token`.
pub fn add_level(epoll: RawFd, fd: RawFd, token: u64) -> io::Result<()> {
    let events = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: `event` is initialised and outlives the call; a descriptor that is closed is an error.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(())
}

/// Takes `fd` out of the poll set.
pub fn remove(epoll: RawFd, fd: RawFd) -> io::Result<()> {
    // Kernels before 2.6.9 wanted a pointer here; giving one costs nothing.
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `event` is initialised and outlives the call; a descriptor that is closed is an error.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, &raw mut event) })?;
    Ok(())
}
