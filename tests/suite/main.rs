//! The end-to-end tests: one binary, one module per subject.
//!
//! `cases.rs` is the table of requests for every web server; `servers.rs` runs it. The other modules test what does
//! not fit into a table.

mod blobs;
mod bodies;
mod browser;
mod cases;
mod crash;
mod crowd;
mod database;
mod disconnects;
mod echo;
mod fault_injection;
mod files;
mod fronts;
mod htaccess;
mod inherited;
mod isolated;
mod launcher;
mod like;
mod log;
mod login;
mod machines;
mod malformed;
mod multiplex;
mod own_app;
mod own_login;
mod own_rows;
mod proxy_fcgi;
mod requests_over_limits;
mod seccomp;
mod servers;
mod signals;
mod site;
mod soak;
mod store;
mod syscalls;
mod upgrade;
mod versions;
mod waits;
mod watch;
mod workers;
