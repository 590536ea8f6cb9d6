//! Opens the listen socket of each transport that has one.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use atomic_file::FileIdentity;
use event_loop::net::{Address, Listener};
use process::{descriptors, is_short};

use crate::cause::Cause;
use crate::error::Error;
use crate::transport::{Listen, ListenAt, Protocol};
use crate::worker::is_worker;

/// A listen socket and what the server needs to know about it.
pub(crate) struct Listening {
    pub(crate) listener: Listener,
    /// The address it listens on, as assigned by the operating system: port 0 is replaced by the actual
    /// port.
    pub(crate) on: Listen,
    /// The peers whose connections are accepted.
    pub(crate) web_servers: WebServers,
    /// Whether no other process listens on this socket, so that it may be shut down when draining.
    pub(crate) is_exclusive: bool,
}

/// Who may connect (`FCGI_WEB_SERVER_ADDRS`, FastCGI 1.0 §3.2).
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WebServers {
    /// The variable is not set.
    Anybody,
    /// Only these addresses.
    Named(Vec<IpAddr>),
    /// The list cannot be parsed. It was meant to restrict access, so every request is refused; the
    /// process stays up so that the error page can say why.
    Unreadable(String),
}

/// How often, and at what interval, a start that lacks descriptors or memory is retried. Blocking is
/// harmless: nothing is served yet, and this may be the only process that listens on the web server's
/// socket.
const START_TRIES: u32 = 10;

const START_PAUSE: Duration = Duration::from_millis(50);

/// Retries an operation that fails for lack of a resource that others may release in a moment.
pub(crate) fn patiently<T>(mut make: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    for _ in 1..START_TRIES {
        match make() {
            Err(error) if is_short(&error) => thread::sleep(START_PAUSE),
            made => return made,
        }
    }
    make()
}

/// Opens the listen socket of a transport that has one. `inherited` is the socket of the previous image
/// of this process.
pub(crate) fn open(on: &Listen, inherited: Option<OwnedFd>) -> Result<Listening, Error> {
    let protocol = on.protocol;
    let web_servers = match protocol {
        Protocol::FastCgi => WebServers::of_environment(),
        Protocol::Http => WebServers::Anybody,
    };
    match &on.at {
        ListenAt::Stdin => {
            let listener = take_from_stdin().map_err(Error::NotSpawned)?;
            let is_exclusive = listener.local_address().is_ok_and(|at| is_socket_of_mod_fcgid(&at));
            Ok(Listening { listener, on: on.clone(), web_servers, is_exclusive })
        }
        ListenAt::Address(_) if is_worker() => {
            let listener = inherited.map_or_else(take_from_stdin, Listener::from_fd);
            let listener = listener.map_err(Error::NotSpawned)?;
            // Other workers and the supervisor listen on it too.
            Ok(Listening { listener, on: on.clone(), web_servers, is_exclusive: false })
        }
        ListenAt::Address(address) => {
            let (listener, address) = bind(address, inherited)?;
            if protocol == Protocol::FastCgi
                && matches!(address, Address::Tcp(_))
                && web_servers == WebServers::Anybody
            {
                tracing::warn!(
                    "Any account on this machine, and any machine that can reach {address}, \
                     can send requests here and claim any variable. Prefer unix:PATH, or name the \
                     web servers in FCGI_WEB_SERVER_ADDRS."
                );
            }
            let on = Listen { protocol, at: ListenAt::Address(address) };
            Ok(Listening { listener, on, web_servers, is_exclusive: true })
        }
    }
}

fn take_from_stdin() -> io::Result<Listener> {
    Listener::from_fd(patiently(descriptors::take_listener_from_stdin)?)
}

impl Listening {
    /// Whether mod_fcgid has spawned this process.
    pub(crate) fn is_behind_mod_fcgid(&self) -> bool {
        self.on.is_on_stdin() && self.is_exclusive
    }

    /// Why every request has to be refused, if it has to.
    pub(crate) fn refusal(&self) -> Option<Cause> {
        match &self.web_servers {
            WebServers::Unreadable(value) => Some(Cause::WebServerAddresses(value.clone())),
            WebServers::Anybody | WebServers::Named(_) => None,
        }
    }
}

fn bind(address: &Address, inherited: Option<OwnedFd>) -> Result<(Listener, Address), Error> {
    let failed = |source| Error::Listen { address: address.to_string(), source };
    if let Some(socket) = inherited {
        let listener = Listener::from_fd_with_file(socket).map_err(failed)?;
        let bound = listener.local_address().map_err(failed)?;
        if is_same_address(address, &bound) {
            return Ok((listener, bound));
        }
        // The configuration names another address. The socket's file is removed with it, and connections
        // in its backlog are reset.
        tracing::info!("No longer listening on {bound}: the configuration names {address}.");
    }
    let listener = Listener::bind(address).map_err(failed)?;
    let bound = listener.local_address().map_err(failed)?;
    Ok((listener, bound))
}

/// Whether a bound socket is the requested one; port 0 matches any port.
fn is_same_address(asked: &Address, bound: &Address) -> bool {
    match (asked, bound) {
        (Address::Tcp(asked), Address::Tcp(bound)) => {
            asked.ip() == bound.ip() && [0, bound.port()].contains(&asked.port())
        }
        (Address::Unix(asked), Address::Unix(bound)) => {
            let same_file = |asked| FileIdentity::of(bound).is_some_and(|bound| bound == asked);
            asked == bound || FileIdentity::of(asked).is_some_and(same_file)
        }
        _ => false,
    }
}

/// Whether the socket is one of mod_fcgid's, which creates one socket per process, names it
/// `…/PARENT.COUNTER` after its process manager (our parent), and closes its own copy after the fork: no
/// other process listens on it.
fn is_socket_of_mod_fcgid(address: &Address) -> bool {
    let Address::Unix(path) = address else { return false };
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let Some((parent, counter)) = name.split_once('.') else { return false };
    parent == std::os::unix::process::parent_id().to_string()
        && !counter.is_empty()
        && counter.bytes().all(|byte| byte.is_ascii_digit())
}

impl WebServers {
    fn of_environment() -> Self {
        match std::env::var_os("FCGI_WEB_SERVER_ADDRS") {
            None => WebServers::Anybody,
            Some(list) => WebServers::of_list(&list.to_string_lossy()),
        }
    }

    fn of_list(list: &str) -> Self {
        let addresses = list.split(',').map(|address| address.trim().parse().ok());
        match addresses.collect() {
            Some(addresses) => WebServers::Named(addresses),
            None => WebServers::Unreadable(list.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_web_server_addresses() {
        let two = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!(WebServers::of_list("127.0.0.1, ::1"), WebServers::Named(two));
        for bad in ["", "localhost", "127.0.0.1,,"] {
            assert_eq!(WebServers::of_list(bad), WebServers::Unreadable(bad.to_owned()));
        }
    }

    #[test]
    fn recognizes_sockets_of_mod_fcgid() {
        let parent = std::os::unix::process::parent_id();
        let unix = |path: String| Address::Unix(path.into());
        assert!(is_socket_of_mod_fcgid(&unix(format!("/var/lib/apache2/fcgid/sock/{parent}.12"))));
        assert!(!is_socket_of_mod_fcgid(&unix(format!("/tmp/{parent}.sock"))));
        assert!(!is_socket_of_mod_fcgid(&unix("/tmp/1234567890.1".to_owned())));
    }
}
