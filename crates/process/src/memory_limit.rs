//! A limit of the memory that this process may take, so that asking for too much fails here instead of the host
//! ending the process.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sys::mapping::page_size;

/// A limit is in force, and this one was before; `u64::MAX`: none.
static LIMITED: AtomicBool = AtomicBool::new(false);
static LIMIT_BEFORE: AtomicU64 = AtomicU64::new(u64::MAX);

/// Keeps the limit in force.
#[derive(Debug)]
pub struct MemoryLimit(());

/// Lets this process grow by so many bytes and no more: its soft limit of address space (RLIMIT_AS)
/// becomes the present size + `bytes`, unless that is more than it is anyway. `None` when a limit of ours
/// is in force already.
///
/// Child processes inherit it; [`Command`](crate::Command) gives them the former one.
///
/// # Errors
/// When `/proc` is not mounted, and what `setrlimit(2)` answers.
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

/// Puts back the limit that was before. Async-signal-safe: for a next image, for a child.
pub fn lift_limit() {
    if LIMITED.swap(false, Ordering::Relaxed) {
        let before = LIMIT_BEFORE.load(Ordering::Relaxed);
        let current = (before != u64::MAX).then_some(before);
        // To raise a soft limit up to the hard one is always allowed.
        let _ = setrlimit(Resource::As, Rlimit { current, ..getrlimit(Resource::As) });
    }
}

/// The limit that was before, for a child that is started meanwhile; ours again when this is dropped.
pub(crate) struct Lifted(Option<Rlimit>);

impl Lifted {
    /// Lifts the limit, if one of ours is in force.
    pub(crate) fn for_now() -> Lifted {
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

/// Returns the bytes of address space that this process has.
pub(crate) fn address_space() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = text.split(' ').next().and_then(|pages| pages.parse().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm is not understood"))?;
    Ok(pages.saturating_mul(page_size()))
}
