//! An open connection: its client, and the task that moves its bytes.

use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use event_loop::Task;
use tokio_postgres::{AsyncMessage, Client, Connection, Error, Statement};

use crate::endpoint::Endpoint;
use crate::inbox::Inbox;
use crate::statements::Statements;
use crate::tls::EncryptedStream;
use crate::wire::{Signs, Wire};

/// An open connection. Its drop closes the socket at once.
pub(crate) struct Open {
    pub(crate) client: Client,
    pub(crate) statements: Mutex<Statements>,
    pub(crate) endpoint: Endpoint,
    /// Ends when the server has closed the connection.
    pub(crate) task: Task<()>,
    /// What the server has notified it of.
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) signs: Arc<Signs>,
}

impl Open {
    /// With `read_write`, it is given up as soon as the server says that it accepts no writes any more: before anything
    /// is read that may be old. PostgreSQL says so since version 14.
    pub(crate) fn new(
        client: Client,
        mut connection: Connection<Wire, EncryptedStream>,
        endpoint: Endpoint,
        signs: Arc<Signs>,
        read_write: bool,
    ) -> Open {
        let place = endpoint.clone();
        let inbox = Arc::new(Inbox::default());
        let notified = Arc::clone(&inbox);
        let task = event_loop::spawn(async move {
            loop {
                let message = poll_fn(|context| {
                    let message = connection.poll_message(context);
                    let is_useless = read_write && is_read_only(&connection);
                    if is_useless { Poll::Ready(None) } else { message }
                });
                match message.await {
                    Some(Ok(AsyncMessage::Notification(_))) => notified.put(),
                    // A notice: PostgreSQL says more than it has to.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => {
                        tracing::debug!(endpoint = %place, %error, "Lost a connection to PostgreSQL");
                        break;
                    }
                    None => break,
                }
            }
            if read_write && is_read_only(&connection) {
                tracing::info!(endpoint = %place, "PostgreSQL has become read-only: closing a connection.");
            }
            notified.close();
        });
        let statements = Mutex::new(Statements::new());
        Open { client, statements, endpoint, task, inbox, signs }
    }

    /// Returns the statement of this SQL, prepared at its first use.
    pub(crate) async fn prepare_cached(&self, sql: &str) -> Result<Statement, Error> {
        let known = self.statements().find(sql);
        if let Some(statement) = known {
            return Ok(statement);
        }
        let statement = self.client.prepare(sql).await?;
        let oldest = self.statements().add(sql, statement.clone());
        // Its drop closes it in PostgreSQL.
        drop(oldest);
        Ok(statement)
    }

    fn statements(&self) -> std::sync::MutexGuard<'_, Statements> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether the server has said that transactions cannot write. Standbys do not say it in this way, but no primary
/// becomes one without a restart.
pub(crate) fn is_read_only(connection: &Connection<Wire, EncryptedStream>) -> bool {
    connection.parameter("default_transaction_read_only") == Some("on")
}

impl fmt::Debug for Open {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Open").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
