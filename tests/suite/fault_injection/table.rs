//! The rows of the table: which calls fail, and with which errors.

/// The errors that a call can really return, and the program encounter. Those of sockets and of files are not
/// told apart: what cannot happen in one place is survived there as well.
///
/// Not here: `EAGAIN` from a `read` or `write` that could make progress, because polling is edge-triggered and
/// the edge never comes; `close` and `munmap`, which strace skips but the real kernel performs even when it
/// returns an error; and calls that can only fail for wrong arguments. `brk` only where no program is executed:
/// the C library cannot start without it.
pub(super) const ERRORS: &[(&str, &[&str])] = &[
    ("accept4", &["EMFILE", "ENFILE", "ENOMEM", "ECONNABORTED", "EINTR", "EAGAIN"]),
    ("brk", &["ENOMEM"]),
    ("clone,clone3,fork,vfork", &["EAGAIN", "ENOMEM"]),
    ("copy_file_range,sendfile", &["EIO", "ENOSPC", "EINTR"]),
    ("dup2,dup3", &["EINTR"]),
    ("epoll_create1", &["EMFILE", "ENOMEM"]),
    ("epoll_ctl", &["ENOMEM", "ENOSPC"]),
    ("epoll_wait,epoll_pwait", &["EINTR"]),
    ("eventfd2", &["EMFILE", "ENOMEM"]),
    ("execve", &["ENOMEM", "EIO", "EMFILE", "EAGAIN"]),
    ("fchown", &["EIO", "EPERM"]),
    ("fcntl", &["EMFILE", "EINTR", "EAGAIN", "ENOLCK"]),
    ("flock", &["EINTR", "EAGAIN", "ENOLCK"]),
    ("fsync,fdatasync", &["EIO", "ENOSPC", "EINTR"]),
    ("ftruncate", &["EIO", "EINTR"]),
    ("getdents64", &["EIO", "ENOMEM"]),
    ("getrandom", &["EINTR"]),
    ("linkat", &["EIO", "ENOSPC"]),
    ("mkdir", &["EIO", "ENOSPC"]),
    ("mmap", &["ENOMEM"]),
    ("mprotect", &["ENOMEM"]),
    ("newfstatat,fstat,stat,lstat,statx", &["EIO", "ENOMEM"]),
    ("openat", &["EMFILE", "ENOMEM", "ENOSPC", "EIO", "EINTR"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("poll", &["EINTR", "ENOMEM"]),
    ("pread64", &["EIO", "EINTR"]),
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("read", &["EIO", "EINTR", "ENOMEM"]),
    ("readlink", &["EIO", "ENOMEM"]),
    ("rename", &["EIO", "ENOSPC"]),
    ("sigaltstack", &["ENOMEM"]),
    ("unlink", &["EIO"]),
    ("utimensat", &["EIO"]),
    ("wait4,waitid", &["EINTR"]),
    ("write,writev", &["EIO", "ENOSPC", "EINTR"]),
];

/// Rows in which the fault persists: a full disk, no memory or a full table.
pub(super) const LASTING: &[(&str, &[&str])] = &[
    ("brk,mmap", &["ENOMEM"]),
    ("openat", &["EMFILE", "ENFILE"]),
    ("pwrite64", &["ENOSPC"]),
    ("fsync,fdatasync", &["EIO"]),
];

/// The C library's text for an error; Rust's `io::Error` prints it, too.
pub(super) fn words(errno: &str) -> &'static [&'static str] {
    match errno {
        "EAGAIN" => &["os error 11)", "temporarily unavailable"],
        "ECONNABORTED" => &["os error 103)"],
        "EINTR" => &["os error 4)", "Interrupted"],
        "EIO" => &["os error 5)", "disk I/O error"],
        "EMFILE" => &["os error 24)", "Too many open files"],
        "ENFILE" => &["os error 23)"],
        "ENOLCK" => &["os error 37)", "ENOLCK"],
        "ENOMEM" => &["os error 12)", "memory"],
        "ENOSPC" => &["os error 28)", "No space left", "is full"],
        "EPERM" => &["os error 1)"],
        other => panic!("{other} has no text here"),
    }
}
