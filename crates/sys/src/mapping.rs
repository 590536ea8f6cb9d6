//! Memory outside the heap, for what must survive heap corruption.

use std::ffi::c_void;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap_anonymous, mprotect};

/// Returns the size of a page of memory in bytes.
pub fn page_size() -> u64 {
    // Not rustix, which before Linux 6.4 reads it from /proc, and panics if that is not mounted.
    // SAFETY: sysconf takes an integer.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Maps `size` bytes of fresh, zeroed memory, page-aligned.
pub(crate) fn map(size: usize) -> io::Result<*mut c_void> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice touches no other memory.
    Ok(unsafe { mmap_anonymous(ptr::null_mut(), size, protection, MapFlags::PRIVATE) }?)
}

/// Copies bytes into their own read-only mapping, which is never unmapped.
///
/// # Errors
///
/// If there is no memory.
pub fn seal(bytes: &[u8]) -> io::Result<&'static [u8]> {
    if bytes.is_empty() {
        return Ok(&[]);
    }
    let memory = map(bytes.len())?;
    // SAFETY: the fresh mapping has room for that many bytes and overlaps nothing.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), memory.cast(), bytes.len()) };
    // SAFETY: the mapping is ours, and nothing writes to it from now on.
    unsafe { mprotect(memory, bytes.len(), MprotectFlags::READ) }?;
    // SAFETY: the mapping has that many initialized bytes, is never written to again and never unmapped.
    Ok(unsafe { std::slice::from_raw_parts(memory.cast::<u8>(), bytes.len()) })
}

/// A value in a static that a signal handler reads: outside the heap, in read-only memory.
///
/// Publishing another value leaks the former one, because a handler may be reading it: meant for what is published a
/// few times in the life of a process.
#[derive(Debug)]
pub struct Published<T>(AtomicPtr<T>);

impl<T: Copy + Sync + 'static> Published<T> {
    /// Creates a cell without a value.
    pub const fn empty() -> Self {
        Published(AtomicPtr::new(ptr::null_mut()))
    }

    /// Publishes a value, which replaces the former one.
    ///
    /// # Errors
    ///
    /// If there is no memory; the former value stays.
    pub fn publish(&self, value: T) -> io::Result<()> {
        const { assert!(align_of::<T>() <= 4096, "a mapping is aligned to a page") };
        let memory = map(size_of::<T>().max(1))?.cast::<T>();
        // SAFETY: the fresh mapping has room for the value and is aligned for it.
        unsafe { memory.write(value) };
        // SAFETY: the mapping is ours, and nothing writes to it from now on.
        unsafe { mprotect(memory.cast(), size_of::<T>().max(1), MprotectFlags::READ) }?;
        self.0.store(memory, Ordering::Release);
        Ok(())
    }

    /// Returns the value published last. Async-signal-safe.
    pub fn get(&self) -> Option<&'static T> {
        // SAFETY: null, or a mapping from `publish`, which is never written to again and never unmapped.
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_value_outlives_its_successor() {
        static VALUE: Published<[u8; 3]> = Published::empty();
        assert_eq!(VALUE.get(), None);
        VALUE.publish(*b"old").unwrap();
        let old = VALUE.get().unwrap();
        VALUE.publish(*b"new").unwrap();
        assert_eq!((old, VALUE.get()), (b"old", Some(b"new")));
    }

    #[test]
    fn sealed_bytes_equal_the_original() {
        assert_eq!(seal(b"a page").unwrap(), b"a page");
        assert_eq!(seal(b"").unwrap(), b"");
    }
}
