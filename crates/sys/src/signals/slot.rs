//! Where the signal handler counts for one loop, and the self-pipe by which it wakes that loop.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use rustix::pipe::{PipeFlags, pipe_with};

use crate::errno::{KeptErrno, check};

/// How many loops of one process can listen to signals at a time. The program has one loop; test programs
/// run one in each of their threads.
const SLOTS: usize = 64;

/// The classic signals are 1 to 31; real-time signals are not for us.
const SIGNAL_NUMBERS: usize = 32;

/// One slot, as the handler sees it.
#[derive(Debug)]
struct Slot {
    /// A loop uses it.
    taken: AtomicBool,
    /// The loop wants to be woken for these: bit number = signal number.
    interest: AtomicU32,
    /// Write end of the self-pipe; -1 before the slot was used for the first time. Never closed again: the
    /// handler must not write into a descriptor that has become somebody else's.
    write_end: AtomicI32,
    /// Read end of the self-pipe.
    read_end: AtomicI32,
    /// How often each signal came and was not taken yet.
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

/// The handler of all signals that are caught. It adds to atomic numbers and writes a byte to each interested
/// self-pipe: both are async-signal-safe. A full pipe refuses the byte, which is well: the loop is about to wake.
pub(super) extern "C" fn on_signal(signal: c_int) {
    let _kept = KeptErrno::keep();
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
        // SAFETY: the pointer is to one static byte; write is async-signal-safe.
        unsafe { libc::write(write_end, b"!".as_ptr().cast(), 1) };
    }
}

/// One loop's claim on a slot and its self-pipe.
#[derive(Debug)]
pub struct SignalSlot {
    slot: &'static Slot,
}

impl SignalSlot {
    /// Claims a slot; its pipe is made at the first use of the slot.
    ///
    /// # Errors
    ///
    /// When 64 loops of this process have one, or descriptors are short.
    pub fn claim() -> io::Result<Self> {
        let free = |slot: &&Slot| !slot.taken.swap(true, Ordering::AcqRel);
        let Some(slot) = TABLE.iter().find(free) else {
            let message = format!("{SLOTS} event loops of this process listen to signals already");
            return Err(io::Error::other(message));
        };
        // From here on the drop gives the slot back.
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

    /// The read end of the self-pipe, to be put into the poll set.
    pub fn read_end(&self) -> BorrowedFd<'static> {
        // SAFETY: claim has made the pipe, and it is never closed.
        unsafe { BorrowedFd::borrow_raw(self.slot.read_end.load(Ordering::Acquire)) }
    }

    /// Takes all bytes out of the pipe. To be called before the counts are taken.
    pub fn empty_pipe(&self) {
        let mut bytes = [0; 256];
        while let Ok(256) = rustix::io::read(self.read_end(), &mut bytes) {}
    }

    /// Says which signals wake the loop: bit number = signal number.
    pub fn set_interest(&self, mask: u32) {
        self.slot.interest.store(mask, Ordering::Release);
    }

    /// Returns how often the signal came since this was asked last.
    pub fn take_pending(&self, signal: c_int) -> u32 {
        match self.slot.pending.get(signal as usize) {
            Some(pending) => pending.swap(0, Ordering::AcqRel),
            None => 0,
        }
    }

    /// Makes the pipe again, at the same numbers: in the child of a fork it is shared with the parent.
    ///
    /// # Errors
    ///
    /// When descriptors are short.
    pub fn remake_pipe(&self) -> io::Result<()> {
        let (read_end, write_end) = self_pipe()?;
        for (new, place) in [(read_end, &self.slot.read_end), (write_end, &self.slot.write_end)] {
            let place = place.load(Ordering::Acquire);
            // SAFETY: dup3 takes integers; the number is the slot's own and stays it.
            check(unsafe { libc::dup3(new.as_raw_fd(), place, libc::O_CLOEXEC) })?;
        }
        // The byte for counts that were not taken may have been left in the old pipe.
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

/// Closes the self-pipes that were copied with the process: for the child of a fork that has no loop.
pub fn forget_all_slots() {
    for slot in &TABLE {
        slot.interest.store(0, Ordering::Release);
        slot.taken.store(false, Ordering::Release);
        for end in [&slot.write_end, &slot.read_end] {
            let fd = end.swap(-1, Ordering::AcqRel);
            if fd != -1 {
                // SAFETY: the descriptor was the slot's own, which has just forgotten it.
                unsafe { libc::close(fd) };
            }
        }
    }
}

fn self_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}
