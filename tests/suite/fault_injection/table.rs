//! The rows of the table: which calls fail, and with which errors.

/// The errors that each call can return in practice. Sockets and files are not distinguished: the program
/// survives errors that one of them cannot have, too.
///
/// Left out: `EAGAIN` from a `read` or `write` that could make progress, because polling is edge-triggered and
/// the edge never comes; `close` and `munmap`, which strace skips but the kernel performs even if it returns an
/// error; and calls that fail only for wrong arguments. `brk` fails only in phases that execute no program: the
/// C library cannot start without it.
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
    ("fchmod", &["EIO", "EPERM"]),
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
    ("open,openat", &["EMFILE", "ENOMEM", "ENOSPC", "EIO", "EINTR"]),
    ("pipe2", &["EMFILE", "ENFILE"]),
    ("poll,ppoll", &["EINTR", "ENOMEM"]),
    ("pread64", &["EIO", "EINTR"]),
    ("pwrite64", &["EIO", "ENOSPC", "EINTR"]),
    ("read", &["EIO", "EINTR", "ENOMEM"]),
    ("readlink", &["EIO", "ENOMEM"]),
    ("rename,renameat", &["EIO", "ENOSPC"]),
    ("sigaltstack", &["ENOMEM"]),
    ("unlink", &["EIO"]),
    ("utimensat", &["EIO"]),
    ("wait4,waitid", &["EINTR"]),
    ("write,writev", &["EIO", "ENOSPC", "EINTR"]),
];

/// Rows in which the fault lasts: a full disk, no memory, a full table.
pub(super) const LASTING: &[(&str, &[&str])] = &[
    ("brk,mmap", &["ENOMEM"]),
    ("open,openat", &["EMFILE", "ENFILE"]),
    ("pwrite64", &["ENOSPC"]),
    ("fsync,fdatasync", &["EIO"]),
];

/// What the log says for an error, by Rust's `io::Error`, the C library, or SQLite.
pub(super) fn messages(errno: &str) -> &'static [&'static str] {
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
