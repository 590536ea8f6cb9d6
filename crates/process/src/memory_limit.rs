//! A limit on this process's memory, so that an excessive allocation fails here before the host kills the process.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::mapping::page_size;

/// Whether our limit is in force.
static LIMITED: AtomicBool = AtomicBool::new(false);
/// The limit that was in force before; `u64::MAX` for none.
static LIMIT_BEFORE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Keeps the limit in force until it is dropped.
#[derive(Debug)]
pub struct MemoryLimit(());

/// Limits the growth of this process: sets its soft limit of address space (RLIMIT_AS) to the current size plus
/// `bytes`. Returns `None` and does nothing if the existing limit is lower, or a limit of ours is already in force.
///
/// Forked children inherit it; [`Command`](crate::Command) restores the former one for its children.
///
/// # Errors
///
/// If `/proc` is not mounted; any from `setrlimit(2)`.
pub fn limit_memory(bytes: u64) -> io::Result<Option<MemoryLimit>> {
    let before = getrlimit(Resource::As);
    let limit = address_space()?.saturating_add(bytes);
    if before.current.is_some_and(|before| limit >= before) || LIMITED.swap(true, Ordering::Relaxed)
    {
        return Ok(None);
    }
    LIMIT_BEFORE.store(before.current.unwrap_or(u64::MAX), Ordering::Relaxed);
    let limited = MemoryLimit(());
    setrlimit(Resource::As, Rlimit { current: Some(limit), ..before })?;
    Ok(Some(limited))
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        lift_limit();
    }
}

/// Restores the limit that was in force before. Async-signal-safe, for use before a re-exec.
pub fn lift_limit() {
    if LIMITED.swap(false, Ordering::Relaxed) {
        let before = LIMIT_BEFORE.load(Ordering::Relaxed);
        let current = (before != u64::MAX).then_some(before);
        // Raising a soft limit up to the hard one is always allowed.
        let _ = setrlimit(Resource::As, Rlimit { current, ..getrlimit(Resource::As) });
    }
}

/// Restores the former limit while a child is started; ours is in force again when this is dropped.
pub(crate) struct Lifted(Option<Rlimit>);

impl Lifted {
    /// Lifts the limit if ours is in force.
    pub(crate) fn begin() -> Lifted {
        let ours = LIMITED.load(Ordering::Relaxed).then(|| getrlimit(Resource::As));
        if ours.is_some() {
            lift_limit();
        }
        Lifted(ours)
    }
}

impl Drop for Lifted {
    fn drop(&mut self) {
        if let Some(ours) = self.0.take()
            && setrlimit(Resource::As, ours).is_ok()
        {
            LIMITED.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns the size of this process's address space in bytes.
pub(crate) fn address_space() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = text.split(' ').next().and_then(|pages| pages.parse().ok());
    let pages =
        pages.ok_or_else(|| io::Error::other("/proc/self/statm has an unexpected format"))?;
    Ok(pages.saturating_mul(page_size()))
}
