//! `execve(2)` of a program prepared in advance, so that a handler of a fatal signal can do it too. `process::reexec`
//! decides what passes across it.

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::mapping::map;

/// A program to execute, with its arguments and environment, prepared so that [`exec`](Self::exec) allocates nothing.
/// `Send` and `Sync`, so that a signal handler can find it in a static.
///
/// All of it is in its own mapping: a buffer overflow that crashes the process may have destroyed the heap.
#[derive(Debug)]
pub struct Image {
    /// The mapping: both lists of pointers (arguments, then variables), each ending with a null pointer, then all
    /// strings.
    address: usize,
    length: usize,
    /// The offset of the path.
    path_at: usize,
    /// The offset of the list of variables.
    variables_at: usize,
    /// The offset of the pointer after the last variable, which has room for one more.
    slot_at: usize,
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and no pointer into it is left.
        let unmapped = unsafe { rustix::mm::munmap(self.address as *mut c_void, self.length) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

impl Image {
    /// Prepares the program at a path, with its arguments (including argument 0) and its environment.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if any of it contains a zero byte; `OutOfMemory`.
    pub fn prepare<A, N, V>(
        path: &Path,
        arguments: impl IntoIterator<Item = A>,
        environment: impl IntoIterator<Item = (N, V)>,
    ) -> io::Result<Image>
    where
        A: AsRef<OsStr>,
        N: AsRef<OsStr>,
        V: AsRef<OsStr>,
    {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let arguments = arguments.into_iter().map(|it| CString::new(it.as_ref().as_bytes()));
        let arguments: Vec<CString> = arguments.collect::<Result<_, _>>()?;
        let variables = environment.into_iter().map(|(name, value)| {
            let parts = [name.as_ref().as_bytes(), b"=", value.as_ref().as_bytes()];
            CString::new(parts.concat())
        });
        let variables: Vec<CString> = variables.collect::<Result<_, _>>()?;
        const POINTER: usize = size_of::<AtomicPtr<c_char>>();
        let variables_at = (arguments.len() + 1) * POINTER;
        let slot_at = variables_at + variables.len() * POINTER;
        // A null pointer follows the slot.
        let path_at = slot_at + 2 * POINTER;
        let strings = [&path].into_iter().chain(&arguments).chain(&variables);
        let length =
            path_at + strings.clone().map(|it| it.as_bytes_with_nul().len()).sum::<usize>();
        let address = map(length)? as usize;
        let mut at = address + path_at;
        let pointers = [None]
            .into_iter()
            .chain((0..arguments.len()).map(|index| Some(address + index * POINTER)))
            .chain(
                (0..variables.len()).map(|index| Some(address + variables_at + index * POINTER)),
            );
        for (string, pointer) in strings.zip(pointers) {
            let bytes = string.as_bytes_with_nul();
            // SAFETY: the fresh, zeroed mapping has room for all pointers and strings, and the pointers are
            // aligned in it.
            unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
                if let Some(pointer) = pointer {
                    (pointer as *mut *const u8).write(at as *const u8);
                }
            }
            at += bytes.len();
        }
        Ok(Image { address, length, path_at, variables_at, slot_at })
    }

    /// Replaces this process's program; returns only if that failed. Async-signal-safe. Standard output's buffer is
    /// not flushed.
    ///
    /// Unlike std's `Command`, this does not pass a file that the kernel cannot execute to `/bin/sh`.
    ///
    /// # Errors
    ///
    /// Any from `execve(2)`: ETXTBSY (`ExecutableFileBusy`) while the file is open for writing.
    pub fn exec(&self) -> io::Error {
        let at = |offset: usize| self.address + offset;
        // SAFETY: the path and all strings end with a zero byte, both lists end with a null pointer, an
        // AtomicPtr has the layout of a pointer, and all of it outlives the call.
        unsafe {
            libc::execve(
                at(self.path_at) as *const c_char,
                at(0) as *const *const c_char,
                at(self.variables_at) as *const *const c_char,
            )
        };
        io::Error::last_os_error()
    }

    /// Same as [`exec`](Self::exec), with one more variable, `NAME=VALUE`. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// Same as [`exec`](Self::exec).
    pub fn exec_with(&self, variable: &CStr) -> io::Error {
        // A signal handler that interrupts this and calls it too restores what it found.
        // SAFETY: an aligned pointer in the mapping, which from now on is only changed by atomic stores.
        let slot = unsafe { &*((self.address + self.slot_at) as *const AtomicPtr<c_char>) };
        let before = slot.swap(variable.as_ptr().cast_mut(), Ordering::AcqRel);
        let error = self.exec();
        slot.store(before, Ordering::Release);
        error
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The heap is overwritten as by a buffer overflow.
    #[test]
    fn exec_works_with_a_destroyed_heap() {
        let arguments = ["sh", "-c", "exit $CODE"];
        let image = Image::prepare(Path::new("/bin/sh"), arguments, [("A", "b")]).unwrap();
        // SAFETY: glibc keeps its heap usable in the child, which has no other thread, and the child ends here.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let heap = own_heap();
            // SAFETY: it is mapped for writing. No destructor and no allocation follows: the process executes another
            // program, or exits.
            unsafe { ptr::write_bytes(heap.start as *mut u8, b'A', heap.len()) };
            let error = image.exec_with(c"CODE=42");
            // SAFETY: takes a number.
            unsafe { libc::_exit(error.raw_os_error().unwrap_or(1)) };
        }
        let mut status = 0;
        // SAFETY: there is room for the status of a child that nothing else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42, "{status:#x}");
    }

    /// Returns the address range of this thread's small allocations.
    fn own_heap() -> std::ops::Range<usize> {
        // glibc gives each thread except the first an arena of this size and alignment.
        const ARENA: usize = 64 << 20;
        let small = Box::into_raw(Box::new([0_u8; 16])) as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let heap = maps.lines().find_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            (start..end).contains(&small).then(|| match line.ends_with("[heap]") {
                true => start..end,
                // Below it may lie another arena of the same mapping.
                false => start.max(small & !(ARENA - 1))..end,
            })
        });
        heap.expect("the heap is mapped")
    }
}
