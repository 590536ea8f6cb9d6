//! Sends signed requests: deadlines, and further attempts after errors that pass.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_loop::{LoopId, loop_id, time};
use http::header::{CONTENT_LENGTH, HOST};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rusty_s3::S3Action;
use tokio::sync::OwnedSemaphorePermit;
use url::Url;

use super::failure::{Failure, Refusal};
use super::part::Part;
use super::pool::{Lease, Limits, Origin, Pool, problem_of};
use crate::error::BlobError;
use crate::settings::S3Settings;

/// How often a request is sent in all. All of them may be repeated without harm.
const MAX_ATTEMPTS: u32 = 4;

/// How long after the first attempt none begins: a visitor waits.
const MAX_TIME: Duration = Duration::from_secs(30);

/// The pause before the second attempt, on average; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// How much of a request must be sent per second on average; this comes in addition to the time for the response.
const MIN_BYTES_PER_SECOND: u64 = 64 << 10;

/// The longest text that is read: a list of 1000 long keys has about 1.5 MB.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// How long a signature is valid, so how wrong the clock of either side may be.
const SIGNATURE_LIFETIME: Duration = Duration::from_secs(15 * 60);

/// A request to be signed and sent, perhaps several times.
pub(super) struct Call<A> {
    action: A,
    headers: HeaderMap,
    body: Part,
}

impl<'a, A: S3Action<'a>> Call<A> {
    pub(super) fn new(action: A) -> Self {
        Call { action, headers: HeaderMap::new(), body: Part::default() }
    }

    /// Adds a header that is part of the signature, as S3 demands for `x-amz-…`. `value` is ASCII without controls.
    pub(super) fn signed(mut self, name: &'static str, value: String) -> Self {
        self = self.header(name, &value);
        self.action.headers_mut().insert(name, value);
        self
    }

    /// Adds a header. `value` is ASCII without controls.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(HeaderName::from_static(name), value);
        }
        self
    }

    pub(super) fn body(self, body: Part) -> Self {
        Call { body, ..self }
    }

    /// Signs it now.
    fn request(&self, authority: &HeaderValue) -> Result<Request<Part>, http::Error> {
        let url = self.action.sign(SIGNATURE_LIFETIME);
        let mut request = Request::new(self.body.clone());
        *request.method_mut() = A::METHOD.to_str().parse()?;
        *request.uri_mut() = target(&url).parse()?;
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        headers.insert(HOST, authority.clone());
        if request.method() == http::Method::PUT || request.method() == http::Method::POST {
            request.headers_mut().insert(CONTENT_LENGTH, self.body.length().into());
        }
        Ok(request)
    }

    /// Returns how long sending it may take.
    fn sending_time(&self) -> Duration {
        Duration::from_secs(self.body.length() / MIN_BYTES_PER_SECOND)
    }
}

/// Returns path and query.
fn target(url: &Url) -> &str {
    &url[url::Position::BeforePath..url::Position::AfterQuery]
}

/// Sends requests to one server.
pub(super) struct Client {
    origin: Origin,
    /// The value of `Host`, as signed.
    authority: HeaderValue,
    /// For errors.
    server: String,
    access_key: String,
    limits: Limits,
    response_timeout: Duration,
    /// The pool of the loop that was last seen here.
    pool: Mutex<Option<(LoopId, Arc<Pool>)>>,
}

impl Client {
    pub(super) fn new(origin: Origin, authority: HeaderValue, settings: &S3Settings) -> Client {
        Client {
            server: format!("{}:{}", origin.host, origin.port),
            origin,
            authority,
            access_key: settings.access_key.clone(),
            limits: Limits { connections: settings.max_connections, uploads: settings.max_uploads },
            response_timeout: settings.response_timeout,
            pool: Mutex::default(),
        }
    }

    /// Sends a request, again if it fails for a reason that passes, and returns the first response that is not an error.
    pub(super) async fn send<'a, A>(&self, call: &Call<A>) -> Result<Reply, Failure>
    where
        A: S3Action<'a>,
    {
        let start = time::now();
        let mut attempt = 1;
        loop {
            match self.attempt(call).await {
                Err(failure)
                    if failure.is_transient()
                        && attempt < MAX_ATTEMPTS
                        && time::now() < start + MAX_TIME =>
                {
                    tracing::debug!(server = %self.server, attempt, ?failure, "S3 request repeated");
                    time::sleep(pause_after(attempt)).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    /// Waits until a further upload may hold a part in memory.
    pub(super) async fn upload_permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.pool().upload_permit().await
    }

    /// Converts a failure to the error for callers.
    pub(super) fn error(&self, failure: Failure) -> BlobError {
        failure.into_error(&self.server)
    }

    async fn attempt<'a, A>(&self, call: &Call<A>) -> Result<Reply, Failure>
    where
        A: S3Action<'a>,
    {
        let pool = self.pool();
        let (response, lease) = loop {
            let mut lease = pool.connection().await?;
            let request = call.request(&self.authority);
            let request = request.map_err(|error| Failure::Broken(error.to_string()))?;
            let timeout = self.response_timeout + call.sending_time();
            match lease.send(request, timeout).await {
                Ok(response) => break (response, lease),
                // An idle connection was closed meanwhile. There are only a few of these.
                Err(None) => continue,
                Err(Some(failure)) => return Err(failure),
            }
        };
        let (head, body) = response.into_parts();
        let reply = Reply { head, body, lease, timeout: self.response_timeout };
        if reply.head.status.is_success() {
            return Ok(reply);
        }
        let head = reply.head.clone();
        // The status says enough if the rest does not arrive.
        let body = reply.text().await.unwrap_or_default();
        Err(self.refusal(&head, &body))
    }

    /// Reads an error response.
    pub(super) fn refusal(&self, head: &Parts, body: &str) -> Failure {
        Failure::Refused(Refusal::new(head, body, &self.access_key))
    }

    /// Returns the pool of the loop that runs.
    fn pool(&self) -> Arc<Pool> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let current = loop_id();
        match (&*pool, current) {
            (Some((owner, pool)), Some(current)) if *owner == current => Arc::clone(pool),
            _ => {
                let new = Pool::new(self.origin.clone(), self.limits);
                let old = mem::replace(&mut *pool, current.map(|id| (id, Arc::clone(&new))));
                // After a fork it is a copy of the parent's: its descriptors are closed, and may be others by now.
                mem::forget(old);
                new
            }
        }
    }
}

/// Returns how long to wait after an attempt: twice as long each time, and half of it random, so that processes that
/// failed together do not try again together.
fn pause_after(attempt: u32) -> Duration {
    let pause = FIRST_PAUSE * 2_u32.pow(attempt - 1);
    let random = getrandom::u32().unwrap_or_default() % 1000;
    pause / 2 + pause * random / 1000
}

/// A response whose head has arrived, and the connection that its body comes from.
pub(super) struct Reply {
    pub(super) head: Parts,
    pub(super) body: Incoming,
    pub(super) lease: Lease,
    /// How long the next piece of it may take.
    pub(super) timeout: Duration,
}

impl Reply {
    /// Reads the whole body as text, which may take no longer than at the slowest pace that is allowed.
    pub(super) async fn text(mut self) -> Result<String, Failure> {
        let mut bytes = Vec::new();
        let longest =
            self.timeout + Duration::from_secs(MAX_TEXT_BYTES as u64 / MIN_BYTES_PER_SECOND);
        let deadline = time::now() + longest;
        loop {
            let left = deadline.saturating_duration_since(time::now()).min(self.timeout);
            match time::timeout(left, self.body.frame()).await {
                Err(_) if left < self.timeout => return Err(Failure::Silent(longest)),
                Err(_) => return Err(Failure::Silent(self.timeout)),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err(Failure::Broken(problem_of(&error))),
                Ok(Some(Ok(frame))) => {
                    bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
                }
            }
            if bytes.len() > MAX_TEXT_BYTES {
                return Err(Failure::Broken("its response is too long".to_owned()));
            }
        }
        self.lease.give_back();
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}
