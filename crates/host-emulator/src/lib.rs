//! A shared host at home: what will fail there fails here, and says so.
//!
//! In front is an HTTP server with [`EmulatedHost`] as its service; behind it are real processes of the program, started
//! through its launcher as the host's web server starts them. So launcher, transport, reload and the end of processes are
//! the real ones; what the web server and the host impose is here.
//!
//! | file | subject |
//! | --- | --- |
//! | `rules.rs` | which hosts there are, their rules and the directives that set them |
//! | `refusal.rs` | what is refused: the status, the page, the line for the developer |
//! | `installation.rs` | the site's folder, and how a process is started in it |
//! | `limits.rs` | what CloudLinux forbids a process |
//! | `fastcgi.rs`, `script.rs` | one request to a process: over FastCGI, as a CGI script |
//! | `processes.rs` | the FastCGI processes: which serves, when one is started, when it ends |
//! | `response.rs` | from a program's output to the response, held back as the host does |
//! | `log_follower.rs` | the program's log, at the terminal |
//! | `emulated_host.rs` | one request from its first byte to its last |
//!
//! What does not live here: HTTP (the server's, in `app-server`), FastCGI's records (`fastcgi-server`), and how a web server
//! describes a request by CGI variables (`hosted`).

#![forbid(unsafe_code)]

mod emulated_host;
mod fastcgi;
mod installation;
mod limits;
mod log_follower;
mod processes;
mod refusal;
mod response;
mod rules;
mod script;

pub use emulated_host::{EmulatedHost, Emulator};
pub use installation::{Describe, Emulated, Variables};
pub use response::{BrokenOff, EmulatedBody};
pub use rules::{Host, RuleError, Rules, UnknownHost};

/// The examples in the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
