//! Signal slots: the pending counts that the signal handler keeps for a loop, and the self-pipe that wakes that loop.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::descriptors::borrow;
use crate::errno::{SavedErrno, check};

/// How many loops of one process can listen for signals at the same time. The program has one loop; test programs run
/// one in each of their threads.
const SLOTS: usize = 64;

/// The standard signals are 1 to 31; real-time signals are not supported.
const SIGNAL_NUMBERS: usize = 32;

/// One slot, as the handler sees it.
#[derive(Debug)]
struct Slot {
    /// Whether a loop uses it.
    taken: AtomicBool,
    /// The signals that wake the loop: bit number = signal number.
    interest: AtomicU32,
    /// The write end of the self-pipe; -1 before the slot is first used. Stays open until [`forget_all_slots`]: the
    /// handler must not write into a descriptor whose number has been reused.
    write_end: AtomicI32,
    /// The read end of the self-pipe.
    read_end: AtomicI32,
    /// For each signal number, how often it has arrived since the count was last taken.
    pending: [AtomicU32; SIGNAL_NUMBERS],
}

static TABLE: [Slot; SLOTS] = [const {
    Slot {
        taken: AtomicBool::new(false),
        interest: AtomicU32::new(0),
        write_end: AtomicI32::new(-1),
        read_end: AtomicI32::new(-1),
        pending: [const { AtomicU32::new(0) }; SIGNAL_NUMBERS],
    }
}; SLOTS];

/// The handler of all caught signals. It increments atomic counts and writes a byte to the self-pipe of each
/// interested slot: both are async-signal-safe.
pub(super) extern "C" fn on_signal(signal: c_int) {
    let _errno = SavedErrno::save();
    for slot in &TABLE {
        let pending = slot.pending.get(signal as usize);
        if let Some(pending) = pending
            && slot.interest.load(Ordering::Relaxed) & (1 << signal) != 0
        {
            pending.fetch_add(1, Ordering::Release);
            slot.wake();
        }
    }
}

impl Slot {
    /// Writes a byte into the self-pipe. Async-signal-safe.
    fn wake(&self) {
        let write_end = self.write_end.load(Ordering::Acquire);
        // Fails if the pipe is full: the loop is about to wake anyway.
        let _ = rustix::io::write(borrow(write_end), b"!");
    }
}

/// One loop's claim on a slot and its self-pipe.
#[derive(Debug)]
pub struct SignalSlot {
    slot: &'static Slot,
}

impl SignalSlot {
    /// Claims a slot; its pipe is created when the slot is first used.
    ///
    /// # Errors
    ///
    /// If 64 loops of this process have a slot, or descriptors are short.
    pub fn claim() -> io::Result<Self> {
        let free = |slot: &&Slot| !slot.taken.swap(true, Ordering::AcqRel);
        let Some(slot) = TABLE.iter().find(free) else {
            let message = format!("{SLOTS} event loops of this process already listen for signals");
            return Err(io::Error::other(message));
        };
        // From here on, the drop releases the slot.
        let claimed = SignalSlot { slot };
        if slot.write_end.load(Ordering::Acquire) == -1 {
            let (read_end, write_end) = self_pipe()?;
            slot.read_end.store(read_end.into_raw_fd(), Ordering::Release);
            slot.write_end.store(write_end.into_raw_fd(), Ordering::Release);
        }
        claimed.empty_pipe();
        for pending in &slot.pending {
            pending.store(0, Ordering::Relaxed);
        }
        Ok(claimed)
    }

    /// Returns the read end of the self-pipe, to be added to the poll set.
    pub fn read_end(&self) -> BorrowedFd<'static> {
        // `claim` has created the pipe, which outlives the claim.
        borrow(self.slot.read_end.load(Ordering::Acquire))
    }

    /// Empties the pipe. Call it before taking the counts, or a signal in between would not wake the loop.
    pub fn empty_pipe(&self) {
        let mut bytes = [0; 256];
        while let Ok(256) = rustix::io::read(self.read_end(), &mut bytes) {}
    }

    /// Sets which signals wake the loop: bit number = signal number.
    pub fn set_interest(&self, mask: u32) {
        self.slot.interest.store(mask, Ordering::Release);
    }

    /// Returns how often the signal has arrived since the last call.
    pub fn take_pending(&self, signal: c_int) -> u32 {
        match self.slot.pending.get(signal as usize) {
            Some(pending) => pending.swap(0, Ordering::AcqRel),
            None => 0,
        }
    }

    /// Replaces the pipe by a new one at the same numbers: a forked child shares the old one with its parent.
    ///
    /// # Errors
    ///
    /// If descriptors are short.
    pub fn replace_pipe(&self) -> io::Result<()> {
        let (read_end, write_end) = self_pipe()?;
        for (new, old) in [(read_end, &self.slot.read_end), (write_end, &self.slot.write_end)] {
            let old = old.load(Ordering::Acquire);
            // SAFETY: dup3 takes integers; the number is the slot's own and remains so.
            check(unsafe { libc::dup3(new.as_raw_fd(), old, libc::O_CLOEXEC) })?;
        }
        // The byte for counts not yet taken may be in the old pipe.
        self.slot.wake();
        Ok(())
    }
}

impl Drop for SignalSlot {
    fn drop(&mut self) {
        self.slot.interest.store(0, Ordering::Release);
        self.slot.taken.store(false, Ordering::Release);
    }
}

/// Releases all slots and closes their self-pipes: for a forked child that has no loop yet.
pub fn forget_all_slots() {
    for slot in &TABLE {
        slot.interest.store(0, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
        for end in [&slot.write_end, &slot.read_end] {
            let fd = end.swap(-1, Ordering::AcqRel);
            if fd != -1 {
                // SAFETY: the descriptor was the slot's own, and the slot has just given it up.
                unsafe { libc::close(fd) };
            }
        }
    }
}

fn self_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}
