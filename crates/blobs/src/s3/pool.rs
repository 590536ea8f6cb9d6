//! Connections to the server: opened when needed, kept for a while, limited in number.
//!
//! A pool belongs to one event loop, whose tasks drive its connections.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use event_loop::net::{Address, Stream};
use event_loop::{Task, time};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::rustls::ClientConfig;

use super::failure::Failure;
use super::part::Part;
use super::wire::Wire;
use crate::CHUNK_BYTES;

/// How long the look-up of the name may take, and then the connection to each address with its TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a request or an upload waits for others to end if as many as allowed are in flight.
const PERMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// For how long a connection is kept without a request. Servers close it after 5 s to a few minutes; if it was closed
/// just now, the request is sent again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// How many connections are kept without a request.
const MAX_IDLE: usize = 8;

/// For how long the addresses of the server's name are used.
const ADDRESSES_FRESH: Duration = Duration::from_secs(60);

/// Where the server is.
#[derive(Clone)]
pub(super) struct Origin {
    pub(super) host: String,
    pub(super) port: u16,
    /// `None` for HTTP without TLS.
    pub(super) tls: Option<Arc<ClientConfig>>,
}

/// How many may be in flight at a time.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections: usize,
    pub(super) uploads: usize,
}

pub(super) struct Pool {
    origin: Origin,
    requests: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
    idle: Mutex<Vec<(Connection, Instant)>>,
    addresses: Mutex<Option<(Vec<Address>, Instant)>>,
}

/// An open connection, and the task that drives it. Dropping it ends the task, which closes the connection.
struct Connection {
    sender: SendRequest<Part>,
    /// Whether the server has closed it before it has read everything.
    is_cut: Arc<AtomicBool>,
    _driver: Task<()>,
}

/// A connection that is in use, with the permit for it. Dropping it closes the connection: what is still on its way in it
/// belongs to a request that nobody waits for.
pub(super) struct Lease {
    connection: Connection,
    /// Whether it has carried a request before.
    is_used: bool,
    permit: OwnedSemaphorePermit,
    pool: Arc<Pool>,
}

impl Pool {
    pub(super) fn new(origin: Origin, limits: Limits) -> Arc<Pool> {
        let permits = |number: usize| Arc::new(Semaphore::new(number.clamp(1, 1000)));
        Arc::new(Pool {
            origin,
            requests: permits(limits.connections),
            uploads: permits(limits.uploads),
            idle: Mutex::default(),
            addresses: Mutex::default(),
        })
    }

    /// Returns a connection; waits if too many are in use.
    pub(super) async fn connection(self: &Arc<Self>) -> Result<Lease, Failure> {
        let permit = permit(&self.requests).await?;
        while let Some(mut connection) = self.take_idle() {
            // Ready at once, unless the end of the last response was not seen yet.
            let ready = time::timeout(Duration::from_millis(100), connection.sender.ready());
            if matches!(ready.await, Ok(Ok(()))) {
                return Ok(Lease { connection, is_used: true, permit, pool: Arc::clone(self) });
            }
        }
        let connection = self.connect().await?;
        Ok(Lease { connection, is_used: false, permit, pool: Arc::clone(self) })
    }

    /// Waits until a further upload may hold a part in memory.
    pub(super) async fn upload_permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        permit(&self.uploads).await
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = lock(&self.idle);
        let closed: Vec<_> = idle
            .extract_if(.., |(connection, since)| {
                connection.sender.is_closed() || since.elapsed() > IDLE_TIMEOUT
            })
            .collect();
        let newest = idle.pop();
        drop(idle);
        drop(closed);
        newest.map(|(connection, _)| connection)
    }

    async fn connect(&self) -> Result<Connection, Failure> {
        let mut last = Failure::Broken("it has no address".to_owned());
        for address in self.addresses().await? {
            match time::timeout(CONNECT_TIMEOUT, self.connect_to(&address)).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(problem)) => last = Failure::Broken(format!("{address}: {problem}")),
                Err(_) => last = Failure::Silent(CONNECT_TIMEOUT),
            }
        }
        // The server may have moved.
        *lock(&self.addresses) = None;
        Err(last)
    }

    async fn addresses(&self) -> Result<Vec<Address>, Failure> {
        if let Some((addresses, since)) = &*lock(&self.addresses)
            && since.elapsed() < ADDRESSES_FRESH
        {
            return Ok(addresses.clone());
        }
        let found = resolve::resolve(&self.origin.host, self.origin.port, CONNECT_TIMEOUT).await;
        let found = found.map_err(|error| Failure::Broken(error.problem))?;
        let addresses: Vec<_> = found.into_iter().map(Address::Tcp).collect();
        *lock(&self.addresses) = Some((addresses.clone(), Instant::now()));
        Ok(addresses)
    }

    async fn connect_to(
        &self,
        address: &Address,
    ) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let stream = Stream::connect(address).await?;
        let wire = match &self.origin.tls {
            None => Wire::plain(stream),
            Some(config) => Wire::encrypt(stream, Arc::clone(config), &self.origin.host).await?,
        };
        let is_cut = wire.is_cut();
        let mut builder = Builder::new();
        let (sender, connection) = builder.max_buf_size(CHUNK_BYTES).handshake(wire).await?;
        // Errors reach whoever waits for a response.
        let _driver = event_loop::spawn(async { drop(connection.await) });
        Ok(Connection { sender, is_cut, _driver })
    }
}

impl Connection {
    fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }
}

impl Lease {
    /// Sends a request and waits for the head of the response.
    ///
    /// # Errors
    ///
    /// `None` if the server has closed the connection, which was open for long, before the request reached it.
    pub(super) async fn send(
        &mut self,
        request: Request<Part>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, Option<Failure>> {
        match time::timeout(timeout, self.connection.sender.send_request(request)).await {
            // What says that all is well cannot be about what the server has not read.
            Ok(Ok(response)) if response.status().is_success() && self.connection.is_cut() => {
                Err(Some(Failure::Broken("it closed the connection during the request".to_owned())))
            }
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) if self.is_used => Err(None),
            Ok(Err(error)) => Err(Some(Failure::Broken(problem_of(&error)))),
            Err(_) => Err(Some(Failure::Silent(timeout))),
        }
    }

    /// Keeps the connection for another request: its response was read to the end.
    pub(super) fn give_back(self) {
        let Lease { connection, permit, pool, .. } = self;
        let mut idle = lock(&pool.idle);
        if idle.len() < MAX_IDLE && !connection.sender.is_closed() && !connection.is_cut() {
            idle.push((connection, Instant::now()));
        }
        drop(idle);
        drop(permit);
    }
}

async fn permit(permits: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
    match time::timeout(PERMIT_TIMEOUT, Arc::clone(permits).acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        // The semaphore is never closed.
        Ok(Err(_)) | Err(_) => Err(Failure::Busy),
    }
}

/// Returns what hyper says with its cause.
pub(super) fn problem_of(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
