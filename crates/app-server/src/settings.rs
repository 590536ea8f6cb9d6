//! The settings of the server, each with its unit, default and reason.
//!
//! Plain data. Where the values come from (flags, environment, file) is up to the program; what the
//! server asks of the program while it serves is in [`Host`](crate::Host).

use std::path::PathBuf;
use std::time::Duration;

use process::Limits;

use crate::cgi_vars::base_path::BasePath;
use crate::cgi_vars::cgi_to_http::VariableSettings;
use crate::cgi_vars::forwarded::TrustedProxy;

/// Limits and deadlines of the server. `Settings::default()` suits a shared host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settings {
    /// Connections open at once. Default 1,024. At the limit, accepting pauses and one connection is
    /// closed for each new one: from the address with the most, the longest idle, or one whose request is
    /// incomplete. The rest stays in the listen backlog.
    pub max_connections: usize,
    /// Requests in flight at once, over all connections. Default 512. At the limit, a new request gets a 503
    /// with `Retry-After`, or replaces one whose body arrives slowly. At most three quarters are for requests
    /// whose bodies are still arriving.
    pub max_requests: usize,
    /// Requests in flight at once on one FastCGI connection. Default 64. Beyond that, the web server gets
    /// `FCGI_OVERLOADED` (FastCGI 1.0 §5.5).
    pub requests_per_connection: u16,
    /// Bytes of CGI variables of one request. Default 128 KiB: twice the 64 KiB that mod_fcgid can send.
    /// Beyond that, the response is 431.
    pub params_bytes: usize,
    /// Bytes of a request body held in memory until the handler reads them. Default 128 KiB. Beyond that,
    /// the connection is not read until the handler catches up.
    pub body_bytes: usize,
    /// Bytes of one request body that may wait in an unlinked temporary file. Default 1 GiB. Used only on
    /// a connection that carries several requests at once, where not reading would delay the others, and
    /// over CGI while the response is blocked. Beyond that, this body ends with an error.
    pub spilled_body_bytes: u64,
    /// Bytes of responses waiting to be sent on one connection. Default 64 KiB. Beyond that, the handlers
    /// that write to it wait.
    pub response_bytes: usize,
    /// How long a keep-alive connection may be idle. Default 5 min, longer than web servers keep theirs
    /// (nginx 60 s), so that they close first and no request meets a closed socket.
    pub idle_timeout: Duration,
    /// How long a request's head (over FastCGI: its variables) may take to arrive. Default 20 s, as Apache's
    /// `RequestReadTimeout`. After that the connection is closed.
    pub head_timeout: Duration,
    /// How long a request's body may pause. Default 60 s; mod_fcgid gives up after 40 s. After that, the
    /// response is 408.
    pub receive_timeout: Duration,
    /// How long a peer may read nothing of a response that is waiting to be sent. Default 60 s.
    pub send_timeout: Duration,
    /// Bytes per second that a client must send of a body, or read of a response, on average. Default
    /// 100. Each second of waiting uses up a second of `receive_timeout` (`send_timeout`), and this many
    /// bytes earn it back, so a client may pause but not trickle. 0: any byte earns back all of it.
    pub min_rate: u32,
    /// Bytes of incomplete heads and variables, over all connections. Default 16 MiB. At the limit, the
    /// connection that holds the most is closed.
    pub total_head_bytes: usize,
    /// Bytes of an unread body that are read and discarded after the response, before the connection is
    /// closed. Default 256 MiB. Closing at once would reset the connection and lose the response.
    pub unread_body_bytes: u64,
    /// How long requests in flight may continue after SIGTERM. Default 30 s. Less patient web servers
    /// kill the process earlier (mod_fcgid after 4 to 8 s).
    pub drain_timeout: Duration,
    /// How long the process serves as before after SIGTERM, only telling load balancers by
    /// [`is_draining`](crate::is_draining) that it will drain. Default 0. A second signal ends the wait.
    pub drain_wait: Duration,
    /// Bytes of an HTTP request's head. Default 64 KiB. Beyond that, the response is 431.
    pub http_head_bytes: usize,
    /// Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are trusted. Default none: any client can
    /// send these headers.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// Where the site is mounted, for requests that do not show it, such as those of a proxy. It is removed from their path if
    /// it is in front. Default none: the root of the host.
    pub base: Option<BasePath>,
    /// The variable in which a web server says where the site is mounted; it takes precedence. Default APP_BASE.
    pub base_variable: String,
    /// Variables that hold passwords: applications get them as [`Secrets`](crate::Secrets) and not among
    /// the other variables. Also recognized with `REDIRECT_` in front of their names. Default
    /// APP_PASSWORD and APP_PASSWORD_HASH.
    pub secret_variables: &'static [&'static str],
    /// Whether a fatal signal (SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT) in the application is answered
    /// with 500, the other requests with 503, and the program restarted in place.
    /// Default yes. Has no effect in a process with several threads.
    pub crash_guard: bool,
    /// How long the application may stall the event loop before its request is answered with 504 and the
    /// program restarted in place. Default 30 s, less than web servers wait (mod_fcgid 40 s, nginx 60 s).
    /// Requires `crash_guard`.
    pub watchdog: Option<Duration>,
    /// Bytes of address space that the process may use beyond what it has when it starts to serve. An
    /// allocation beyond that crashes as above, instead of the host killing the process. Default none:
    /// only the program knows what it needs.
    pub memory: Option<u64>,
    /// A folder in which the processes of a site share what crashed; created if missing. Default none:
    /// nothing is quarantined.
    pub state_folder: Option<PathBuf>,
    /// Isolated requests at once. Default 4: hosts limit processes to some 20 to 100. The others wait, in
    /// order.
    pub max_isolated: usize,
    /// How long an isolated request may wait for its permit, or for the system to create a process.
    /// Default 8 s: together with `isolated_time` less than the 40 s of silence after which mod_fcgid
    /// gives up. Beyond that, the response is 503 with `Retry-After`.
    pub isolated_wait: Duration,
    /// Processor time that every isolated request is granted at least. Default 10 s. Beyond that, the
    /// response is 504.
    pub isolated_cpu: Duration,
    /// How long every isolated request may take at least, not counting the time it waits for the client
    /// to send or receive. Default 30 s. Beyond that, the response is 504.
    pub isolated_time: Duration,
    /// Bytes of memory that every isolated request is granted at least, beyond what the process has.
    /// Default 256 MiB. Beyond that, allocations fail, which most handlers turn into a 500.
    pub isolated_memory: u64,
    /// Bytes of the largest file that every isolated request may write at least. Default 64 MiB. Beyond
    /// that, the response is 500.
    pub isolated_file_size: u64,
    /// How long a process spawned by a web server may be idle before it exits. Default 15 min; 1 min if
    /// its launcher's file was replaced, because its web server will not send it requests again. Only
    /// with [`Server::upgrade`](crate::Server::upgrade).
    pub idle_exit: Duration,
}

impl Settings {
    /// Returns those that concern variables.
    pub(crate) fn of_variables(&self) -> VariableSettings<'_> {
        VariableSettings {
            trusted_proxies: &self.trusted_proxies,
            secret: self.secret_variables,
            base: &self.base_variable,
        }
    }
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
            drain_wait: Duration::ZERO,
            http_head_bytes: 64 * 1024,
            trusted_proxies: Vec::new(),
            base: None,
            base_variable: "APP_BASE".to_owned(),
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
            idle_exit: Duration::from_secs(15 * 60),
        }
    }
}
