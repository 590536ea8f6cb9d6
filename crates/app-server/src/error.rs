//! Why the server could not start or continue. A failure of a single request is an [`ErrorReport`].
//!
//! [`ErrorReport`]: crate::ErrorReport

use std::fmt;
use std::io;

/// The minimum number of descriptors for a useful server: the three standard ones, about ten for the
/// event loop, the log and the store, and some connections. Additional ones allow more connections.
pub const MIN_DESCRIPTORS: u64 = 20;

/// Refuses to start with fewer descriptors than [`MIN_DESCRIPTORS`]: whatever failed later would fail for a
/// reason unrelated to what was attempted.
///
/// # Errors
///
/// [`Error::Descriptors`].
pub fn check_descriptors() -> Result<(), Error> {
    match process::descriptors::limit() {
        Ok(limit) if limit < MIN_DESCRIPTORS => Err(Error::Descriptors(limit)),
        _ => Ok(()),
    }
}

/// Why [`Server::run`](crate::Server::run) gave up.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The listen socket could not be created.
    Listen {
        /// The address as given.
        address: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// Descriptor 0 is not a listening socket, so no web server started this process.
    NotSpawned(io::Error),
    /// Not even one worker could be started.
    Worker(io::Error),
    /// This process may open fewer descriptors than [`MIN_DESCRIPTORS`].
    Descriptors(u64),
    /// The event loop could not be created or failed.
    Loop(io::Error),
    /// The response could not be written (CGI, shell): for example, its reader has gone.
    Response(io::Error),
    /// The application failed in the middle of its response (CGI, shell); the reason is logged.
    Truncated,
    /// The file for a request's body cannot be read (shell).
    Body(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Listen { address, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    formatter,
                    "Cannot listen on {address}: another process listens there already. \
                     End that process or choose another address."
                )
            }
            Error::Listen { address, source }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                write!(
                    formatter,
                    "Cannot listen on {address}: permission denied. Choose a port of 1024 or \
                     more, or a socket in a folder you may write to."
                )
            }
            Error::Listen { address, source } if source.kind() == io::ErrorKind::NotFound => {
                write!(
                    formatter,
                    "Cannot listen on {address}: the folder for the socket does not exist. Make it \
                     first, or choose another."
                )
            }
            Error::Listen { address, source } => {
                // The listener's error already names the address.
                let source = source.to_string();
                let again = format!("cannot listen on {address}: ");
                let source = source.strip_prefix(&again).unwrap_or(&source);
                write!(formatter, "Cannot listen on {address}: {source}.")
            }
            Error::NotSpawned(source) => write!(
                formatter,
                "Descriptor 0 is not a listening socket ({source}): this transport is for a web \
                 server that starts the program itself."
            ),
            Error::Worker(source) => write!(formatter, "Cannot start a worker: {source}."),
            Error::Descriptors(limit) => write!(
                formatter,
                "This process may have only {limit} descriptors open, and a server needs \
                 {MIN_DESCRIPTORS} or more. Raise the limit: `ulimit -n 1024` in a shell, \
                 LimitNOFILE=1024 in a systemd unit; elsewhere ask your host."
            ),
            Error::Loop(source) => write!(formatter, "The event loop failed: {source}."),
            Error::Response(source) => {
                write!(formatter, "Cannot write the response in full: {source}.")
            }
            Error::Truncated => {
                write!(formatter, "The response was cut short; see the log for the reason.")
            }
            Error::Body(source) => write!(formatter, "Cannot read the request body: {source}."),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Listen { source, .. }
            | Error::NotSpawned(source)
            | Error::Worker(source)
            | Error::Loop(source)
            | Error::Response(source)
            | Error::Body(source) => Some(source),
            Error::Descriptors(_) | Error::Truncated => None,
        }
    }
}
