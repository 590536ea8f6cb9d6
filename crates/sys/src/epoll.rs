//! Level-triggered registration in an epoll set: mio only registers edge-triggered, and a listener should be reported
//! again by each wait. Descriptors are passed by number, as mio stores them.

use std::io;
use std::os::fd::RawFd;

use crate::errno::check;

/// Adds `fd` to the epoll set, level-triggered, for EPOLLIN and EPOLLRDHUP. Events carry `token`.
pub fn add_level(epoll: RawFd, fd: RawFd, token: u64) -> io::Result<()> {
    let events = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
    let mut event = libc::epoll_event { events, u64: token };
    // SAFETY: `event` is initialized and outlives the call; a descriptor that is closed is an error.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
    Ok(())
}

/// Removes `fd` from the epoll set.
pub fn remove(epoll: RawFd, fd: RawFd) -> io::Result<()> {
    // Kernels before 2.6.9 required a pointer here; passing one costs nothing.
    let mut event = libc::epoll_event { events: 0, u64: 0 };
    // SAFETY: `event` is initialized and outlives the call; a descriptor that is closed is an error.
    check(unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, &raw mut event) })?;
    Ok(())
}
