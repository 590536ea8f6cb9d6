//! Becoming another program in the same process: `execve(2)` on what was prepared beforehand, so that a handler
//! of a fatal signal can do it too. What passes across it is decided by `process::reexec`.

use std::ffi::{CStr, CString, OsStr, c_char, c_void};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::mapping::map;

/// A program to become, with its arguments and environment, prepared so that nothing has to be allocated
/// when the time has come. `Send` and `Sync`: a signal handler may find it in a static.
/// All of it is in a mapping of its own: code that writes past the end of its memory destroys the heap, so the
/// next image must not be there.
#[derive(Debug)]
pub struct Image {
    /// The mapping: both lists of pointers, each ending with a null pointer, then all strings.
    address: usize,
    length: usize,
    /// Where in it the path and the variables are. The arguments come first.
    path_at: usize,
    variables_at: usize,
    /// Where the pointer after the last variable is: room for one more.
    slot_at: usize,
}

impl Drop for Image {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping, and nobody has a pointer into it any more.
        unsafe { libc::munmap(self.address as *mut c_void, self.length) };
    }
}

impl Image {
    /// Prepares a program by its path, with its arguments (the first is the name it is called by) and its
    /// environment.
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
        // The slot is followed by a null pointer.
        let path_at = slot_at + 2 * POINTER;
        let strings = [&path].into_iter().chain(&arguments).chain(&variables);
        let length =
            path_at + strings.clone().map(|it| it.as_bytes_with_nul().len()).sum::<usize>();
        let address = map(length)? as usize;
        let mut at = address + path_at;
        let places = [None]
            .into_iter()
            .chain((0..arguments.len()).map(|index| Some(address + index * POINTER)))
            .chain(
                (0..variables.len()).map(|index| Some(address + variables_at + index * POINTER)),
            );
        for (string, place) in strings.zip(places) {
            let bytes = string.as_bytes_with_nul();
            // SAFETY: the fresh, zeroed mapping has room for all pointers and strings, and the pointers are
            // aligned in it.
            unsafe {
                ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len());
                if let Some(place) = place {
                    (place as *mut *const u8).write(at as *const u8);
                }
            }
            at += bytes.len();
        }
        Ok(Image { address, length, path_at, variables_at, slot_at })
    }

    /// Becomes the program: returns only when that failed. Async-signal-safe. Standard output's buffer is not
    /// flushed.
    ///
    /// Unlike std's `Command`, which leaves a file that is no program to `/bin/sh`, this runs nothing but
    /// programs.
    ///
    /// # Errors
    ///
    /// What `execve(2)` answers: ETXTBSY (`ExecutableFileBusy`) while somebody has the file open for writing.
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

    /// As [`exec`](Self::exec), with one more variable, `NAME=VALUE`. Async-signal-safe.
    ///
    /// # Errors
    ///
    /// As [`exec`](Self::exec).
    pub fn exec_with(&self, variable: &CStr) -> io::Error {
        // A handler that interrupts us here puts back what it found.
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

    /// As code does that writes past the end of its memory.
    #[test]
    fn a_heap_that_is_destroyed_is_no_hindrance() {
        let arguments = ["sh", "-c", "exit $CODE"];
        let image = Image::prepare(Path::new("/bin/sh"), arguments, [("A", "b")]).unwrap();
        // SAFETY: glibc keeps its heap usable in the child, which has no other thread, and the child ends here.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let heap = own_heap();
            // SAFETY: it is mapped for writing. No destructor and no allocation follows: the process becomes another
            // one, or ends.
            unsafe { ptr::write_bytes(heap.start as *mut u8, b'A', heap.len()) };
            let error = image.exec_with(c"CODE=42");
            // SAFETY: takes a number.
            unsafe { libc::_exit(error.raw_os_error().unwrap_or(1)) };
        }
        let mut status = 0;
        // SAFETY: there is room for the status of a child that nobody else waits for.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        assert!(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 42, "{status:#x}");
    }

    /// Where this thread's small allocations lie.
    fn own_heap() -> std::ops::Range<usize> {
        // glibc gives each thread but the first arenas of this size and alignment.
        const ARENA: usize = 64 << 20;
        let small = Box::into_raw(Box::new([0_u8; 16])) as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let heap = maps.lines().find_map(|line| {
            let (start, end) = line.split_once(' ')?.0.split_once('-')?;
            let start = usize::from_str_radix(start, 16).ok()?;
            let end = usize::from_str_radix(end, 16).ok()?;
            (start..end).contains(&small).then(|| match line.ends_with("[heap]") {
                true => start..end,
                // What lies below may be a neighbour of the same kind.
                false => start.max(small & !(ARENA - 1))..end,
            })
        });
        heap.expect("the heap is mapped")
    }
}
