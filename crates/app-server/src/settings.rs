//! What may be set about the server, each with its unit, default and reason.
//!
//! Plain data. Where the values come from (flags, environment, file) is the program's business; what the server
//! asks of the program while it serves is [`Host`](crate::Host)'s.

use std::path::PathBuf;
use std::time::Duration;

use process::Limits;

use crate::cgi_vars::forwarded::TrustedProxy;
use crate::upgrade::Upgrade;

/// Limits and deadlines of the server. `Settings::default()` suits a shared host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Connections open at once. Default 1,024. At the limit, accepting pauses and one connection is closed for
    /// each new one: from the address with the most, the longest idle, or one whose request is incomplete; the
    /// rest stays in the listen backlog.
    pub max_connections: usize,
    /// Requests in flight at once, over all connections. Default 512. At the limit, a new request gets a 503
    /// with `Retry-After`, or replaces one whose body arrives slowly. At most three quarters are for requests
    /// whose bodies are still arriving.
    pub max_requests: usize,
    /// Requests in flight at once on one FastCGI connection. Default 64. Past it the web server
    /// hears `FCGI_OVERLOADED` (FastCGI 1.0 §5.5).
    pub requests_per_connection: u16,
    /// Bytes of CGI variables of one request. Default 128 KiB: twice the 64 KiB that mod_fcgid can
    /// send. Past it the request is answered 431.
    pub params_bytes: usize,
    /// Bytes of a request body held in memory for a handler that has not read them. Default
    /// 128 KiB. Past it the connection is not read until the handler catches up.
    pub body_bytes: usize,
    /// Bytes of one request body that may wait in an unlinked temporary file. Default 1 GiB. Used
    /// only on a connection that carries several requests at once, where not reading would
    /// delay the others, and over CGI while the response cannot go on. Past it that one body ends with
    /// an error.
    pub spilled_body_bytes: u64,
    /// Bytes of responses waiting for a connection to take them. Default 64 KiB. Past it the
    /// handlers that write to it wait.
    pub response_bytes: usize,
    /// How long a keep-alive connection may be idle. Default 5 min, which is longer than web servers
    /// keep theirs (nginx 60 s), so that they close first and no request meets a closed socket.
    pub idle_timeout: Duration,
    /// How long a request's head (over FastCGI: its variables) may take to arrive. Default 20 s, as Apache's
    /// `RequestReadTimeout`. After that the connection is closed.
    pub head_timeout: Duration,
    /// How long a request's body may pause. Default 60 s; mod_fcgid gives up after 40 s. After that the
    /// response is 408.
    pub receive_timeout: Duration,
    /// How long a peer may take nothing of a response that waits for it. Default 60 s.
    pub send_timeout: Duration,
    /// Bytes a second that a client must send of a body, or read of a response, on average. Default 100. Each
    /// second that we wait uses up a second of `receive_timeout` (`send_timeout`), and this many bytes earn it
    /// back, so a client may pause but not trickle. 0: any byte earns back all of it.
    pub min_rate: u32,
    /// Bytes of incomplete heads and variables, over all connections. Default 16 MiB. At the limit, the
    /// connection that holds the most is closed.
    pub total_head_bytes: usize,
    /// Bytes of a body nobody read that are taken and dropped after the response, before the
    /// connection is closed. Default 256 MiB. Closing at once would reset the response away.
    pub unread_body_bytes: u64,
    /// How long requests in flight may go on after SIGTERM. Default 30 s. A web server that is
    /// less patient kills earlier (mod_fcgid after 4 to 8 s).
    pub drain_timeout: Duration,
    /// Bytes of an HTTP request's head. Default 64 KiB. Past it the response is 431.
    pub http_head_bytes: usize,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Default none: anybody can
    /// send these headers.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Variables that hold passwords: applications get them as [`Secrets`](crate::Secrets) and not
    /// among the other variables. Also taken with `REDIRECT_` before their names. Default APP_PASSWORD
    /// and APP_PASSWORD_HASH.
    pub secret_variables: &'static [&'static str],
    /// Whether a fatal signal (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) in the application is answered
    /// 500, the requests of others 503, and the program restarted in place in the same process. Default yes.
    /// Not in a process that has several threads.
    pub crash_guard: bool,
    /// How long the application may keep the loop from coming round before it is answered 504, and the
    /// program restarted in place. Default 30 s, less than web servers wait (mod_fcgid 40 s, nginx 60 s). Needs
    /// `crash_guard`.
    pub watchdog: Option<Duration>,
    /// Bytes of address space that the process may take beyond what it has when it begins to serve. What
    /// asks for more crashes as above, instead of the host ending the process. Default none: only the
    /// program knows what it needs.
    pub memory: Option<u64>,
    /// A folder in which the processes of a site tell one another what crashed; it is made when it is
    /// missing. Default none: nothing is quarantined.
    pub state_folder: Option<PathBuf>,
    /// Isolated requests at once. Default 4: a host that counts processes allows some 20 to 100. The
    /// others wait, in order.
    pub max_isolated: usize,
    /// How long an isolated request may wait for its place, or for the system to make a process. Default
    /// 8 s: together with `isolated_time` less than the 40 s after which mod_fcgid takes silence for death.
    /// Past it the response is 503 with `Retry-After`.
    pub isolated_wait: Duration,
    /// Processor time that every isolated request may use, at least. Default 10 s. Past it 504.
    pub isolated_cpu: Duration,
    /// How long every isolated request may take, at least, without the time in which it waits for the
    /// visitor to send or to receive. Default 30 s. Past it 504.
    pub isolated_time: Duration,
    /// Bytes of memory that every isolated request may have, at least, beyond what the process has.
    /// Default 256 MiB. Past it allocations fail, which is a 500 with most handlers.
    pub isolated_memory: u64,
    /// Bytes of the largest file that every isolated request may write, at least. Default 64 MiB. Past it
    /// 500.
    pub isolated_file_size: u64,
    /// How a newer version takes the place of this one. Default `None`: never.
    pub upgrade: Option<Upgrade>,
    /// How long a process that a web server has spawned may be without requests before it ends. Default
    /// 15 min; a minute when its launcher's file was replaced, for its web server never asks it again. Only
    /// with `upgrade`.
    pub idle_exit: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            max_connections: 1024,
            max_requests: 512,
            requests_per_connection: 64,
            params_bytes: 128 * 1024,
            body_bytes: 128 * 1024,
            spilled_body_bytes: 1 << 30,
            response_bytes: 64 * 1024,
            idle_timeout: Duration::from_secs(300),
            head_timeout: Duration::from_secs(20),
            receive_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            min_rate: 100,
            total_head_bytes: 16 << 20,
            unread_body_bytes: 256 << 20,
            drain_timeout: Duration::from_secs(30),
            http_head_bytes: 64 * 1024,
            trusted_proxies: Vec::new(),
            secret_variables: &["APP_PASSWORD", "APP_PASSWORD_HASH"],
            crash_guard: true,
            watchdog: Some(Duration::from_secs(30)),
            memory: None,
            state_folder: None,
            max_isolated: 4,
            isolated_wait: Duration::from_secs(8),
            isolated_cpu: Limits::DEFAULT.cpu,
            isolated_time: Limits::DEFAULT.wall,
            isolated_memory: Limits::DEFAULT.memory,
            isolated_file_size: Limits::DEFAULT.file_size,
            upgrade: None,
            idle_exit: Duration::from_secs(15 * 60),
        }
    }
}
