//! Why there is no connection.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why there is no connection: what happened, and what the owner can do about it.
///
/// One sentence without a period, for the log. It never contains the password. What PostgreSQL itself said is part of
/// it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// The URL is wrong in this part.
    Url {
        /// The part, as in "port" or "parameter sslmode".
        part: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificates of the trusted authorities cannot be read.
    Roots {
        /// Why, with the name of the file.
        problem: String,
    },
    /// The host's name has no address, or no name server answered.
    NameNotFound {
        /// The name.
        name: String,
        /// What the resolver said.
        problem: String,
    },
    /// Nothing accepts connections at this address, or it is not PostgreSQL.
    Unreachable {
        /// The address, with host and port.
        address: String,
        /// What the system said.
        problem: String,
    },
    /// The connection was not ready in time.
    TimedOut {
        /// The address, with host and port.
        address: String,
        /// The time it had (`connect_timeout`).
        after: Duration,
    },
    /// There is no TLS, or the server's certificate is not to be trusted.
    Tls {
        /// The address, with host and port.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// Wrong password, unknown user, or a server that does not let this user in from here (class 28).
    LoginRefused {
        /// The address, with host and port.
        address: String,
        /// The user.
        user: String,
        /// What PostgreSQL said.
        problem: String,
    },
    /// The database does not exist (3D000).
    NoSuchDatabase {
        /// The address, with host and port.
        address: String,
        /// What PostgreSQL said.
        problem: String,
    },
    /// The server or the user has too many connections (53300).
    TooManyConnections {
        /// The address, with host and port.
        address: String,
        /// What PostgreSQL said.
        problem: String,
    },
    /// The server is starting up or shutting down (57P01 to 57P03).
    NotReady {
        /// The address, with host and port.
        address: String,
        /// What PostgreSQL said.
        problem: String,
    },
    /// The server accepts no writes, and the URL asks for one that does.
    ReadOnly {
        /// The address, with host and port.
        address: String,
    },
    /// PostgreSQL refused the connection for another reason.
    Refused {
        /// The address, with host and port.
        address: String,
        /// What PostgreSQL said, with its code.
        problem: String,
    },
    /// None of several addresses could be used.
    AllFailed(
        /// The failure of each, in the order in which they were tried.
        Vec<PoolError>,
    ),
    /// All connections are in use, and there are too many callers waiting for one.
    Busy {
        /// The number of connections ([`Settings::max`](crate::Settings::max)).
        max: usize,
    },
    /// All connections were in use for this time.
    StillBusy {
        /// The number of connections ([`Settings::max`](crate::Settings::max)).
        max: usize,
        /// How long the caller has waited ([`Settings::wait`](crate::Settings::wait)).
        waited: Duration,
    },
}

impl PoolError {
    pub(crate) fn url(part: impl Into<String>, problem: impl Into<String>) -> PoolError {
        PoolError::Url { part: part.into(), problem: problem.into() }
    }

    /// Returns whether another host or address may be usable although this one is not.
    pub(crate) fn is_of_one_address(&self) -> bool {
        use PoolError::*;
        match self {
            NameNotFound { .. } | Unreachable { .. } | TimedOut { .. } | Tls { .. } => true,
            TooManyConnections { .. } | NotReady { .. } | ReadOnly { .. } => true,
            // The hosts have the same users and databases.
            Url { .. } | Roots { .. } | LoginRefused { .. } | NoSuchDatabase { .. } => false,
            Refused { .. } | AllFailed(_) | Busy { .. } | StillBusy { .. } => false,
        }
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::Url { part, problem } => {
                write!(formatter, "the {part} in the URL of the database is wrong: {problem}")
            }
            PoolError::Roots { problem } => write!(
                formatter,
                "the certificates of trusted authorities cannot be read ({problem}); name a file \
                 of them with sslrootcert=FILE"
            ),
            PoolError::NameNotFound { name, problem } => write!(
                formatter,
                "the name of the database server, {name}, cannot be resolved ({problem}); check \
                 the host in the URL"
            ),
            PoolError::Unreachable { address, problem } => write!(
                formatter,
                "PostgreSQL cannot be reached at {address}: {problem}; check that it runs, and \
                 the host and port in the URL"
            ),
            PoolError::TimedOut { address, after } => write!(
                formatter,
                "PostgreSQL at {address} did not respond within {} s (connect_timeout); check the \
                 host and port in the URL, and firewalls in between",
                after.as_secs_f64()
            ),
            PoolError::Tls { address, problem } => {
                write!(formatter, "no TLS with PostgreSQL at {address}: {problem}")
            }
            PoolError::LoginRefused { address, user, problem } => write!(
                formatter,
                "PostgreSQL at {address} does not let {user} in: {problem}; check user and password in the URL, \
                 and what pg_hba.conf on the server allows"
            ),
            PoolError::NoSuchDatabase { address, problem } => write!(
                formatter,
                "PostgreSQL at {address} refuses the connection: {problem}; create it, or check \
                 its name in the URL"
            ),
            PoolError::TooManyConnections { address, problem } => write!(
                formatter,
                "PostgreSQL at {address} refuses the connection: {problem}; use fewer, or raise \
                 the limit there"
            ),
            PoolError::NotReady { address, problem } => write!(
                formatter,
                "PostgreSQL at {address} refuses the connection: {problem}; try again in a moment"
            ),
            PoolError::ReadOnly { address } => write!(
                formatter,
                "PostgreSQL at {address} is read-only, and the URL says \
                 target_session_attrs=read-write"
            ),
            PoolError::Refused { address, problem } => {
                write!(formatter, "PostgreSQL at {address} refuses the connection: {problem}")
            }
            PoolError::AllFailed(errors) => {
                for (index, error) in errors.iter().enumerate() {
                    let separator = if index == 0 { "" } else { "; and " };
                    write!(formatter, "{separator}{error}")?;
                }
                Ok(())
            }
            PoolError::Busy { max } => write!(
                formatter,
                "all {max} connections to PostgreSQL are in use, and too many requests wait for \
                 one; try again in a moment"
            ),
            PoolError::StillBusy { max, waited } => write!(
                formatter,
                "all {max} connections to PostgreSQL were in use for {} s; look for slow \
                 statements, or allow more connections",
                waited.as_secs_f64()
            ),
        }
    }
}

impl Error for PoolError {}
