//! The life of the server: open the listen socket, accept, drain, end.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use event_loop::fatal;
use event_loop::net::Stream;
use event_loop::signals::{self, Signal};
use event_loop::time;
use http::Request;
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::application::Application;
use crate::body::Body;
use crate::connections::Connections;
use crate::crash_guard::{self, CrashGuard};
use crate::error::Error;
use crate::error_report::Cause;
use crate::listen::{self, Listening, WayIn, WebServers};
use crate::panics;
use crate::settings::Settings;
use crate::{cgi, fastcgi, http as http_way_in};

/// After a full descriptor table accepting is tried again when a connection has ended, and this
/// often, for descriptors may be the application's.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted: what Linux allows at the most by default (somaxconn). A
/// bound for draining a socket to which new ones keep coming.
const LONGEST_BACKLOG: usize = 4096;

/// A table that stays full is told this often: at every try it would fill the log instead.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Serves an application on the calling thread until SIGTERM or SIGINT, then drains: takes no new
/// connection, finishes what is in progress (for at most [`Settings::drain_timeout`]), returns. With
/// [`WayIn::Cgi`] it answers one exchange and returns.
///
/// Starts no thread. The service needs to be neither `Send` nor `Sync` nor `Clone`.
///
/// # Errors
/// When the listen socket or the loop cannot be made, or CGI's one answer did not go out whole.
pub fn run<S, B>(service: S, way_in: WayIn, settings: Settings) -> Result<(), Error>
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: fmt::Display,
{
    panics::install_hook();
    let _guard = CrashGuard::begin(&settings, &way_in);
    on_a_loop(serve(service, way_in, settings))?
}

/// As [`run`], inside a tokio `current_thread` runtime: for applications that use tokio's time, its
/// sockets, `tokio::spawn`, or layers that do. Still one thread; what needs another
/// (`spawn_blocking`, `tokio::fs`) fails where hosts refuse threads. Costs three more system calls a
/// wake-up.
///
/// # Errors
/// As [`run`].
#[cfg(feature = "tokio")]
pub fn run_in_tokio<S, B>(service: S, way_in: WayIn, settings: Settings) -> Result<(), Error>
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: fmt::Display,
{
    panics::install_hook();
    let _guard = CrashGuard::begin(&settings, &way_in);
    event_loop::run_in_tokio(serve(service, way_in, settings)).map_err(Error::Loop)?
}

/// Runs a future on a loop made for it.
pub(crate) fn on_a_loop<F: Future>(future: F) -> Result<F::Output, Error> {
    event_loop::run(future).map_err(Error::Loop)
}

/// As [`run`], on a loop that runs already (`event_loop::run`): for programs with tasks of their own
/// beside the server, and for tests.
///
/// Takes SIGTERM and SIGINT. When dropped, it ends without draining.
///
/// # Errors
/// When the listen socket cannot be made, or CGI's one answer did not go out whole.
pub async fn serve<S, B>(service: S, way_in: WayIn, settings: Settings) -> Result<(), Error>
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: fmt::Display,
{
    let mut application = Application::new(service, settings);
    application.guarded = fatal::is_installed().then(|| crash_guard::way(&way_in));
    let application = Rc::new(application);
    if way_in == WayIn::Cgi {
        return cgi::serve(application).await;
    }
    signals::ignore_broken_pipe().map_err(Error::Loop)?;
    let mut signals =
        signals::listen(&[Signal::Terminate, Signal::Interrupt]).map_err(Error::Loop)?;
    let listening = listen::open(&way_in)?;
    if let WebServers::Unreadable(value) = &listening.web_servers {
        let cause = Cause::WebServerAddresses(value.clone());
        tracing::error!("{cause}.");
        application.refuse_all(cause);
    }
    fatal::set_listener(Some(listening.listener.as_fd()), way_in == WayIn::Spawned);
    tracing::info!("Serving {}.", listening.way_in);
    (application.settings.on_listening)(&listening.way_in.to_string());

    let mut server = Server { application, listening, connections: Rc::default() };
    {
        let mut end = pin!(signals.recv());
        let mut accepting = pin!(server.accept_connections());
        poll_fn(|context| {
            if let Poll::Ready(signal) = end.as_mut().poll(context) {
                tracing::info!("{signal:?} came: finishing what is in progress.");
                return Poll::Ready(());
            }
            accepting.as_mut().poll(context)
        })
        .await;
    }
    // `signals` lives on: a second signal must not end the process by its default action.
    server.drain().await;
    drop(signals);
    Ok(())
}

struct Server<S> {
    application: Rc<Application<S>>,
    listening: Listening,
    connections: Rc<Connections>,
}

impl<S, B> Server<S>
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: fmt::Display,
{
    /// Accepts until the socket is shut down by another process that shares it: then nothing more can
    /// come.
    async fn accept_connections(&mut self) {
        let mut said = None;
        loop {
            let limit = self.application.settings.max_connections;
            if self.connections.len() >= limit {
                self.make_room(limit).await;
            }
            match self.listening.listener.accept().await {
                Ok((stream, peer)) => self.start(stream, peer),
                Err(error) if is_out_of_descriptors(&error) => {
                    let open = self.connections.len();
                    let now = time::now();
                    if said.is_none_or(|said| now.saturating_duration_since(said) >= SAY_AGAIN) {
                        tracing::warn!(open, "Accepting pauses: {error}.");
                        said = Some(now);
                    }
                    self.make_room(open).await;
                }
                Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                    tracing::info!("The listen socket was shut down: finishing.");
                    return;
                }
                // The peer left before it was accepted, or the like: the next may be better.
                Err(error) => tracing::debug!("A connection was not accepted: {error}."),
            }
        }
    }

    /// Waits, out of the poll set, until fewer than `open` connections are open or it is worth
    /// another try.
    async fn make_room(&mut self, open: usize) {
        self.listening.listener.pause();
        self.connections.close_longest_idle();
        let mut again = time::sleep(ACCEPT_AGAIN);
        poll_fn(|context| {
            if Pin::new(&mut again).poll(context).is_ready() {
                return Poll::Ready(());
            }
            self.connections.poll_fewer_than(open, context)
        })
        .await;
    }

    /// Gives a connection a task of its own, which begins at once: a request that is wholly there
    /// is answered before anything else happens.
    fn start(&self, stream: Stream, peer: Option<SocketAddr>) {
        if let (WebServers::Named(allowed), Some(peer)) = (&self.listening.web_servers, peer)
            && !is_allowed(allowed, peer.ip())
        {
            tracing::warn!(
                "A connection from {} was closed: FCGI_WEB_SERVER_ADDRS does not name it.",
                peer.ip()
            );
            return;
        }
        let place = self.connections.enter();
        let application = self.application.clone();
        match self.listening.way_in {
            WayIn::Spawned | WayIn::FastCgi(_) | WayIn::Cgi => {
                event_loop::spawn_now(fastcgi::serve(application, stream, place)).detach();
            }
            WayIn::Http(_) => {
                event_loop::spawn_now(http_way_in::serve(application, stream, peer, place))
                    .detach();
            }
        }
    }

    /// Takes what waits in the backlog, finishes all, returns.
    async fn drain(mut self) {
        // A crash now must not make of a process that ends one that begins.
        fatal::end_afterwards();
        fatal::set_listener(None, false);
        if self.listening.ours_alone {
            // A unix socket refuses new connects at once and keeps its backlog.
            if let Err(error) = self.listening.listener.stop_connects() {
                tracing::debug!("The listen socket could not be shut down: {error}.");
            }
        }
        // Who waits in the backlog would be reset when the socket closes.
        for _ in 0..LONGEST_BACKLOG {
            let Ok(Some((stream, peer))) = self.listening.listener.accept_waiting() else { break };
            self.start(stream, peer);
        }
        let Server { application, listening, connections } = self;
        drop(listening);
        connections.drain();
        let mut patience = time::sleep(application.settings.drain_timeout);
        poll_fn(|context: &mut Context<'_>| {
            if Pin::new(&mut patience).poll(context).is_ready() {
                tracing::warn!(
                    open = connections.len(),
                    "Ending before all was finished, after {} s (drain_timeout).",
                    application.settings.drain_timeout.as_secs()
                );
                return Poll::Ready(());
            }
            connections.poll_fewer_than(1, context)
        })
        .await;
        tracing::info!("Ended.");
    }
}

/// The process' or the system's descriptor table is full, or there is no memory for a socket.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    use libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    error.raw_os_error().is_some_and(|code| [EMFILE, ENFILE, ENOBUFS, ENOMEM].contains(&code))
}

fn is_allowed(allowed: &[IpAddr], peer: IpAddr) -> bool {
    allowed.iter().any(|address| address.to_canonical() == peer.to_canonical())
}
