//! Becoming another program in the same process (`execve(2)`), and what passes across it.
//!
//! The process keeps its number, its open sockets and its signal mask; everything else is the new program's.
//! What it is told stands in the variable `APP_SERVER_INHERITED`, as words with blanks between:
//!
//! | word | what it means |
//! | --- | --- |
//! | `listen=FD` | the listening socket; absent for one that is on descriptor 0 |
//! | `keep=FD` | an idle kept connection, any number of times |
//! | `drain=FD` | a connection that has its answer and is only to be read to its end |
//! | `why=WORD` | `renewed`, `crashed` or `stuck` |
//! | `label=NAME` | whose code was running |
//! | `pid=NUMBER` | the process they are for, added by [`Image::exec`] |
//!
//! The system calls are in `sys/exec.rs`.

pub use crate::sys::exec::{Held, Image, Inherited, Words, release_signals, take_inherited};
