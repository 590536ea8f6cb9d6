//! Opens a connection: resolves, connects, logs in; and says why if that fails. Cancels statements, which takes a
//! connection, too.

use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use event_loop::{time, yield_now};
use resolve::resolve;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, SimpleQueryMessage};
use tokio_rustls::rustls::{self, CertificateError, ClientConfig};

use crate::endpoint::Endpoint;
use crate::error::PoolError;
use crate::open::{Open, is_read_only};
use crate::settings::Settings;
use crate::tls::{self, Handshake};
use crate::url::{Host, Security};

/// Opens connections as the settings say.
#[derive(Debug)]
pub(crate) struct Connector {
    pub(crate) settings: Settings,
    /// Made at the first need. One is enough: hosts may differ in whether there is TLS, but not in how.
    tls: OnceLock<Arc<ClientConfig>>,
    preference: Mutex<Preference>,
}

/// Where to connect first: where it worked last, so that a host that does not respond is waited for once, and not for each
/// connection.
#[derive(Debug, Default)]
struct Preference {
    /// The index of the host. The others follow it, in a circle.
    host: usize,
    /// Which of the host's addresses.
    endpoint: Option<Endpoint>,
}

impl Connector {
    pub(crate) fn new(settings: Settings) -> Self {
        Connector { settings, tls: OnceLock::new(), preference: Mutex::default() }
    }

    /// Opens a connection to the first host and address that can be used; those where it worked last are tried first.
    pub(crate) async fn connect(&self) -> Result<Open, PoolError> {
        let mut failures = Vec::new();
        let hosts = &self.settings.target.hosts;
        let first = self.preference().host;
        for index in (first..hosts.len()).chain(0..first) {
            let mut endpoints = match self.endpoints(&hosts[index]).await {
                Ok(endpoints) => endpoints,
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            let preferred = self.preference().endpoint.clone();
            endpoints.sort_by_key(|endpoint| Some(endpoint) != preferred.as_ref());
            for endpoint in endpoints {
                match self.connect_to(&endpoint).await {
                    Ok(open) => {
                        *self.preference() = Preference { host: index, endpoint: Some(endpoint) };
                        return Ok(open);
                    }
                    Err(failure) if failure.is_of_one_address() => failures.push(failure),
                    Err(failure) => return Err(failure),
                }
            }
        }
        Err(match failures.len() {
            1 => failures.remove(0),
            _ => PoolError::AllFailed(failures),
        })
    }

    /// Connects elsewhere first from now on, if this is where it would begin.
    pub(crate) fn avoid(&self, endpoint: &Endpoint) {
        let mut preference = self.preference();
        if preference.endpoint.as_ref() == Some(endpoint) {
            let host = (preference.host + 1) % self.settings.target.hosts.len();
            *preference = Preference { host, endpoint: None };
        }
    }

    fn preference(&self) -> MutexGuard<'_, Preference> {
        self.preference.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a connection; if it is executing a statement, that is cancelled first. Returns when the connection is
    /// closed, after [`MAX_CLOSING`] at the latest.
    pub(crate) async fn close(&self, open: Open) {
        let Open { client, statements, endpoint, task, signs, inbox: _ } = open;
        let token = client.cancel_token();
        drop((client, statements));
        // Without a statement in flight, the connection takes its leave when it is polled next.
        yield_now().await;
        let closed = async {
            if !signs.is_leaving()
                && !task.is_finished()
                && let Err(error) = self.cancel(&endpoint, token).await
            {
                tracing::debug!(%endpoint, error, "Could not cancel a statement");
            }
            // A panic has been reported by the hook.
            let _ = task.outcome().await;
        };
        // If it takes longer, the drop of the task closes the socket.
        let _ = time::timeout(MAX_CLOSING, closed).await;
    }

    /// Asks the server at `endpoint` to cancel the statement that the connection of this token is executing.
    async fn cancel(&self, endpoint: &Endpoint, token: CancelToken) -> Result<(), String> {
        let handshake = self.handshake(endpoint).map_err(|error| error.to_string())?;
        let stream = endpoint.open_stream(None).await.map_err(|error| error.to_string())?;
        token.cancel_query_raw(stream, handshake).await.map_err(|error| with_causes(&error))
    }

    async fn endpoints(&self, host: &Host) -> Result<Vec<Endpoint>, PoolError> {
        match host {
            Host::Socket(path) => Ok(vec![Endpoint::Socket(path.clone())]),
            Host::Tcp { name, port } => {
                let addresses = resolve(name, *port, self.settings.connect_timeout).await;
                let addresses = addresses.map_err(|error| PoolError::NameNotFound {
                    name: error.name,
                    problem: error.problem,
                })?;
                let endpoint = |address| Endpoint::Tcp { name: name.clone(), address };
                Ok(addresses.into_iter().map(endpoint).collect())
            }
        }
    }

    async fn connect_to(&self, endpoint: &Endpoint) -> Result<Open, PoolError> {
        let after = self.settings.connect_timeout;
        match time::timeout(after, self.log_in(endpoint)).await {
            Ok(done) => done,
            Err(_) => Err(PoolError::TimedOut { address: endpoint.to_string(), after }),
        }
    }

    async fn log_in(&self, endpoint: &Endpoint) -> Result<Open, PoolError> {
        let handshake = self.handshake(endpoint)?;
        let mut login = self.settings.target.login.clone();
        login.options(self.settings.options());
        if login.get_application_name().is_none() {
            login.application_name(APPLICATION_NAME);
        }
        login.ssl_mode(match handshake.config {
            Some(_) => SslMode::Require,
            None => SslMode::Disable,
        });
        let stream = endpoint.open_stream(self.settings.patience()).await.map_err(|error| {
            PoolError::Unreachable { address: endpoint.to_string(), problem: error.to_string() }
        })?;
        let signs = stream.signs();
        let failed = |error: tokio_postgres::Error| self.failure(endpoint, &error);
        let (client, connection) = login.connect_raw(stream, handshake).await.map_err(failed)?;
        let read_write = self.settings.target.read_write;
        let read_only = || PoolError::ReadOnly { address: endpoint.to_string() };
        if read_write && is_read_only(&connection) {
            return Err(read_only());
        }
        let open = Open::new(client, connection, endpoint.clone(), signs, read_write);
        if read_write {
            let answer = open.client.simple_query("SHOW transaction_read_only").await;
            let is_read_only = answer.map_err(failed)?.iter().any(
                |message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("on")),
            );
            if is_read_only {
                return Err(read_only());
            }
        }
        tracing::debug!(%endpoint, "Connected to PostgreSQL");
        Ok(open)
    }

    fn handshake(&self, endpoint: &Endpoint) -> Result<Handshake, PoolError> {
        let Endpoint::Tcp { name, .. } = endpoint else {
            return Ok(Handshake { config: None, name: String::new() });
        };
        let security = self.settings.target.security(name);
        let config = match (security, self.tls.get()) {
            (Security::Plain, _) => None,
            (_, Some(config)) => Some(Arc::clone(config)),
            (_, None) => {
                let config = tls::configure(security)?;
                config.map(|config| Arc::clone(self.tls.get_or_init(|| config)))
            }
        };
        Ok(Handshake { config, name: name.clone() })
    }

    /// Says what went wrong. tokio-postgres tells kinds of errors apart only by their text, which the tests check.
    pub(crate) fn failure(&self, endpoint: &Endpoint, error: &tokio_postgres::Error) -> PoolError {
        let address = endpoint.to_string();
        let user = || self.settings.target.login.get_user().unwrap_or_default().to_owned();
        let Some(refusal) = error.as_db_error() else {
            return match error.to_string().as_str() {
                "error performing TLS handshake" => {
                    PoolError::Tls { address, problem: tls_problem(error) }
                }
                "invalid configuration" | "authentication error" => {
                    PoolError::LoginRefused { address, user: user(), problem: cause(error) }
                }
                _ => PoolError::Unreachable { address, problem: with_causes(error) },
            };
        };
        let (problem, code) = (refusal.message().to_owned(), refusal.code());
        if code.code().starts_with("28") {
            PoolError::LoginRefused { address, user: user(), problem }
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            PoolError::NoSuchDatabase { address, problem }
        } else if *code == SqlState::TOO_MANY_CONNECTIONS {
            PoolError::TooManyConnections { address, problem }
        } else if NOT_READY.contains(code) {
            PoolError::NotReady { address, problem }
        } else {
            PoolError::Refused { address, problem: format!("{problem} ({})", code.code()) }
        }
    }
}

/// How long a connection may take to close: to cancel its statement, and to read the rest of the response.
const MAX_CLOSING: Duration = Duration::from_secs(5);

/// What PostgreSQL shows in `pg_stat_activity` unless the URL names something else.
const APPLICATION_NAME: &str = "toolshed";

const NOT_READY: &[SqlState] =
    &[SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW];

/// Says what is wrong with TLS and what can be done about it.
fn tls_problem(error: &tokio_postgres::Error) -> String {
    let problem = cause(error);
    let certificate = error.source().and_then(|source| {
        let source = source.downcast_ref::<io::Error>()?.get_ref()?;
        match source.downcast_ref::<rustls::Error>()? {
            rustls::Error::InvalidCertificate(certificate) => Some(certificate),
            _ => None,
        }
    });
    let cure = match certificate {
        Some(CertificateError::UnknownIssuer) => "name its authority with sslrootcert=FILE",
        Some(_) => return problem,
        None if problem.contains("does not support TLS") => {
            "write sslmode=disable if the network in between is to be trusted"
        }
        None => return problem,
    };
    format!("{problem}; {cure}")
}

/// Returns the text of an error's innermost cause.
fn cause(error: &dyn Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
