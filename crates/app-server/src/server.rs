//! The life of the server: open the listen socket, accept, give way to a newer version in the same process,
//! drain, end. Whether there is a newer version is found out in `renewal.rs`.

pub(crate) mod connections;
pub(crate) mod listen;

use std::cell::Cell;
use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use event_loop::fatal;
use event_loop::fork::{self, Finisher};
use event_loop::net::{Address, Stream};
use event_loop::signals::{self, Disposition, Signal, Signals};
use event_loop::{descriptors, exec, process, time};
use http::Request;
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::crash_guard::{self, CrashGuard};
use crate::error::{Error, check_descriptors};
use crate::error_report::Cause;
use crate::panics;
use crate::request::application::Application;
use crate::request::body::Body;
use crate::server::connections::{Connections, Kept, is_to_be_said};
use crate::server::listen::{Listening, WayIn, WebServers};
use crate::settings::Settings;
use crate::supervisor;
use crate::transport::{cgi, fastcgi, http as http_way_in};
use crate::upgrade::handover::{Inherited, Why, word};
use crate::upgrade::upgrader::{Act, Renewer};

/// After a full descriptor table accepting is tried again when a connection has ended, and this
/// often, for descriptors may be the application's.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Connections that may wait to be accepted: what Linux allows at the most by default (somaxconn). A
/// bound for draining a socket to which new ones keep coming.
const LONGEST_BACKLOG: usize = 4096;

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
    if way_in != WayIn::Cgi {
        check_descriptors()?;
    }
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
    if way_in != WayIn::Cgi {
        check_descriptors()?;
    }
    panics::install_hook();
    let _guard = CrashGuard::begin(&settings, &way_in);
    event_loop::run_in_tokio(serve(service, way_in, settings)).map_err(Error::Loop)?
}

/// The signals that end a server. A shell without job control starts background commands (`&`) with SIGINT
/// ignored so that Ctrl-C does not reach them; it then stays ignored.
pub(crate) fn ending_signals() -> Vec<Signal> {
    match signals::disposition(Signal::Interrupt) {
        Ok(Disposition::Ignored) => vec![Signal::Terminate],
        _ => vec![Signal::Terminate, Signal::Interrupt],
    }
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
    let mut settings = settings;
    let renewal = settings.renewal.take();
    let mut application = Application::new(service, settings);
    application.guarded = fatal::is_installed().then(|| crash_guard::way(&way_in));
    let application = Rc::new(application);
    signals::ignore_failed_writes().map_err(Error::Loop)?;
    if way_in == WayIn::Cgi {
        return cgi::serve(application).await;
    }
    panics::set_goes_on(true);
    let inherited = Inherited::take();
    let mut wanted = ending_signals();
    // Custom for servers. At a terminal it means that the terminal is gone.
    let hears_hangup = renewal.is_some() && !io::stdin().is_terminal();
    if hears_hangup {
        wanted.push(Signal::Hangup);
    }
    let signals = listen::patiently(|| signals::listen(&wanted)).map_err(Error::Loop)?;
    let was_here = inherited.is_some();
    let mut inherited = inherited.unwrap_or_default();
    if was_here {
        exec::release_signals();
        process::adopt_inherited().map_err(Error::Loop)?;
    }
    supervisor::end_with_supervisor().map_err(Error::Loop)?;
    let listening = listen::open(&way_in, inherited.listen.take())?;
    if application.guarded.is_some() {
        crash_guard::make_folder(&application.settings);
    }
    if let WebServers::Unreadable(value) = &listening.web_servers {
        let cause = Cause::WebServerAddresses(value.clone());
        tracing::error!("{cause}.");
        application.refuse_all(cause);
    }
    fatal::set_listener(Some(listening.listener.as_fd()), way_in == WayIn::Spawned);
    let is_behind_mod_fcgid = way_in == WayIn::Spawned && listening.ours_alone;
    application.is_behind_mod_fcgid.set(is_behind_mod_fcgid);
    let idle_exit = application.settings.idle_exit;
    let idle_exit = (way_in == WayIn::Spawned).then_some(idle_exit);
    let origin = inherited.origin.take();
    let renewer = renewal.and_then(|renewal| {
        Renewer::new(renewal, idle_exit, origin, is_behind_mod_fcgid)
            .inspect_err(|error| {
                tracing::error!("This process cannot be upgraded in place: {error}.")
            })
            .ok()
    });
    if let Some(origin) = renewer.as_ref().and_then(|renewer| renewer.origin.as_deref()) {
        fatal::set_word(word::ORIGIN, origin);
    }
    match inherited.why {
        None => {
            tracing::info!("Serving {}.", listening.way_in);
            (application.settings.on_listening)(&listening.way_in.to_string());
        }
        Some(Why::Renewed) => tracing::info!("Renewed, serving {}.", listening.way_in),
        Some(Why::Crashed | Why::Stuck) => {
            tracing::info!("Begun anew, serving {}.", listening.way_in);
        }
    }

    let mut server =
        Server { application, listening, connections: Rc::default(), signals, renewer };
    server.take_over(inherited);
    server.serve().await;
    Ok(())
}

struct Server<S> {
    application: Rc<Application<S>>,
    listening: Listening,
    connections: Rc<Connections>,
    signals: Signals,
    renewer: Option<Renewer>,
}

/// Why accepting has ended, for good or for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Finish what is in progress, and end.
    Drain,
    /// Give way to the new program.
    Renew,
}

/// How giving way has come out.
#[derive(Debug)]
enum GivenWay {
    /// Not at all: this program goes on.
    NotNow,
    /// Not at all: the process is to end.
    ToEnd,
    /// The process is another program now, and this is the copy that finishes what was in progress.
    ToTheCopy,
}

impl<S, B> Server<S>
where
    S: Service<Request<Body>, Response = http::Response<B>, Error = Infallible> + 'static,
    S::Future: 'static,
    B: HttpBody + 'static,
    B::Error: fmt::Display,
{
    /// Serves until it is time to end; then drains.
    async fn serve(mut self) {
        loop {
            match self.accept_connections().await {
                Next::Drain => break,
                Next::Renew => match self.give_way().await {
                    GivenWay::NotNow => {}
                    GivenWay::ToEnd => break,
                    GivenWay::ToTheCopy => return self.finish_as_copy().await,
                },
            }
        }
        self.drain().await;
    }

    /// Takes over what the program before this one has left.
    fn take_over(&mut self, inherited: Inherited) {
        for kept in inherited.keep {
            match Stream::from_fd(kept) {
                Ok(stream) => {
                    let peer = match stream.peer_address() {
                        Ok(Address::Tcp(peer)) => Some(peer),
                        _ => None,
                    };
                    self.start_kept(Kept::new(stream, peer));
                }
                Err(error) => tracing::debug!("A connection was lost: {error}."),
            }
        }
        for answered in inherited.drain {
            let Ok(stream) = Stream::from_fd(answered) else { continue };
            let limit = self.application.settings.unread_body_bytes;
            let patience = self.application.settings.receive_timeout;
            let place = self.connections.enter(None);
            // Should there be another crash, it is read on all the same.
            let noted = fatal::Connection::enter(stream.as_fd(), fatal::Way::FastCgi);
            noted.set_settled(false);
            event_loop::spawn(async move {
                let _noted = noted;
                let _ = time::timeout(patience, http_way_in::throw_away(stream, limit)).await;
                drop(place);
            })
            .detach();
        }
    }

    /// Accepts until a signal says to end or to renew, there is a newer version, or the socket is shut down
    /// by another process that shares it: then nothing more can come.
    async fn accept_connections(&mut self) -> Next {
        let said = Cell::new(None);
        loop {
            let limit = self.application.settings.max_connections;
            // Until there is room: a connection accepted beyond the limit would stay beyond it.
            while self.connections.len() >= limit {
                if is_to_be_said(&said) {
                    tracing::warn!(
                        "Connection limit reached (max_connections = {limit}); closing idle and \
                         incomplete connections to make room."
                    );
                }
                if let Some(next) = self.make_room(limit).await {
                    return next;
                }
            }
            let accepted = poll_fn(|context| {
                if let Some(next) = self.poll_events(context) {
                    return Poll::Ready(Err(next));
                }
                loop {
                    if self.renewer.as_ref().is_some_and(Renewer::holds) {
                        return Poll::Pending;
                    }
                    // The last look at the launcher comes right before the accept.
                    if let Some(renewer) = &mut self.renewer
                        && ready!(self.listening.listener.poll_acceptable(context)).is_ok()
                        && renewer.was_touched()
                    {
                        match self.poll_events(context) {
                            Some(next) => return Poll::Ready(Err(next)),
                            None => continue,
                        }
                    }
                    return self.listening.listener.poll_accept(context).map(Ok);
                }
            })
            .await;
            match accepted {
                Err(next) => return next,
                Ok(Ok((stream, peer))) => self.start(stream, peer),
                Ok(Err(error)) if listen::is_short(&error) => {
                    let open = self.connections.len();
                    if is_to_be_said(&said) {
                        tracing::warn!(open, "Accepting pauses: {error}.");
                    }
                    if let Some(next) = self.make_room(open).await {
                        return next;
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotConnected => {
                    tracing::info!("The listen socket was shut down: finishing.");
                    return Next::Drain;
                }
                // The peer left before it was accepted, or the like: the next may be better.
                Ok(Err(error)) => tracing::debug!("A connection was not accepted: {error}."),
            }
        }
    }

    /// Looks for signals and newer versions; `None` while neither says to do something else.
    fn poll_events(&mut self, context: &mut Context<'_>) -> Option<Next> {
        while let Poll::Ready(signal) = self.signals.poll_recv(context) {
            match (signal, &mut self.renewer) {
                (Signal::Hangup, Some(renewer)) => renewer.ask(),
                _ => {
                    tracing::info!("{signal} came: finishing what is in progress.");
                    return Some(Next::Drain);
                }
            }
        }
        match self.renewer.as_mut()?.poll(&self.connections, context) {
            Poll::Ready(Act::Renew) => Some(Next::Renew),
            Poll::Ready(Act::End) => Some(Next::Drain),
            Poll::Pending => None,
        }
    }

    /// Waits, out of the poll set, until fewer than `open` connections are open or it is worth
    /// another try.
    async fn make_room(&mut self, open: usize) -> Option<Next> {
        self.listening.listener.pause();
        if !self.connections.make_room() {
            self.application.permits.make_room();
        }
        let mut again = time::sleep(ACCEPT_AGAIN);
        poll_fn(|context| {
            if let Some(next) = self.poll_events(context) {
                return Poll::Ready(Some(next));
            }
            if Pin::new(&mut again).poll(context).is_ready() {
                return Poll::Ready(None);
            }
            self.connections.poll_fewer_than(open, context).map(|()| None)
        })
        .await
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
        self.begin(stream, peer, true);
    }

    /// Goes on with a connection that is between two requests.
    fn start_kept(&self, kept: Kept) {
        let Kept { noted, stream, peer } = kept;
        drop(noted);
        self.begin(stream, peer, false);
    }

    fn begin(&self, stream: Stream, peer: Option<SocketAddr>, is_new: bool) {
        let place = self.connections.enter(peer.map(|peer| peer.ip()));
        let application = self.application.clone();
        match self.listening.way_in {
            WayIn::Spawned | WayIn::FastCgi(_) | WayIn::Cgi => {
                event_loop::spawn_now(fastcgi::serve(application, stream, place, is_new)).detach();
            }
            WayIn::Http(_) => {
                let serving = http_way_in::serve(application, stream, peer, place, is_new);
                event_loop::spawn_now(serving).detach();
            }
        }
    }

    /// Becomes the new program, with the listening socket and the idle connections. What is in progress
    /// gets a moment to finish; what is left then is finished by a copy of this process. Returns when it
    /// cannot be, for now or at all, and in the copy.
    async fn give_way(&mut self) -> GivenWay {
        self.connections.collect();
        let quiet = self.wait_for_quiet().await;
        if !quiet {
            self.resume();
            return GivenWay::ToEnd;
        }
        let outcome = self.replace_program();
        match &outcome {
            GivenWay::ToTheCopy => {}
            GivenWay::NotNow | GivenWay::ToEnd => self.resume(),
        }
        outcome
    }

    /// Goes on with the connections that had been collected.
    fn resume(&self) {
        for kept in self.connections.stop_collecting() {
            self.start_kept(kept);
        }
    }

    /// Waits a moment until all connections are handed over or have ended. `false` when a signal says to
    /// end instead.
    async fn wait_for_quiet(&mut self) -> bool {
        let mut patience = time::sleep(FINISHING);
        poll_fn(|context| {
            while let Poll::Ready(signal) = self.signals.poll_recv(context) {
                if signal != Signal::Hangup {
                    tracing::info!("{signal} came: finishing what is in progress.");
                    return Poll::Ready(false);
                }
            }
            if Pin::new(&mut patience).poll(context).is_ready() {
                return Poll::Ready(true);
            }
            self.connections.poll_fewer_than(1, context).map(|()| true)
        })
        .await
    }

    /// Executes the new program. Returns when that was not possible, and in the copy.
    fn replace_program(&mut self) -> GivenWay {
        let Some(renewer) = &mut self.renewer else { return GivenWay::NotNow };
        if !renewer.is_still_good() {
            renewer.reconsider();
            return GivenWay::NotNow;
        }
        let in_progress = self.connections.len();
        let (tries, wanted_for) = renewer.wanted_for();
        // Only this process can wait for its child processes; and copies are processes, too.
        let cannot_be_copied =
            process::running() > 0 || process::running_in_background() >= MOST_COPIES;
        if in_progress > 0 && cannot_be_copied && wanted_for < CHILDREN_PATIENCE {
            if tries == 0 {
                tracing::info!(in_progress, "Renewing waits for what is in progress.");
            }
            renewer.postpone(false);
            return GivenWay::NotNow;
        }
        // From here on a signal waits for the handlers of the new program, or for ours again.
        let held = exec::Held::begin();
        signals::look_now();
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Ready(signal) = self.signals.poll_recv(&mut context) {
            if signal != Signal::Hangup {
                tracing::info!("{signal} came: finishing what is in progress.");
                return GivenWay::ToEnd;
            }
        }
        let _ = io::stdout().flush();
        let original = if in_progress > 0 {
            match fork::finisher() {
                Ok(Finisher::Original(original)) => Some(original),
                Ok(Finisher::Copy) => {
                    drop(held);
                    return GivenWay::ToTheCopy;
                }
                Err(error) => {
                    if tries == 0 {
                        tracing::warn!(
                            in_progress,
                            "Renewing waits until nothing is in progress: no process could be made \
                             to finish it ({error})."
                        );
                    }
                    renewer.postpone(false);
                    return GivenWay::NotNow;
                }
            }
        } else {
            None
        };
        let mut words = exec::Words::new();
        words.text(word::WHY, word::RENEWED);
        if let Some(origin) = &renewer.origin {
            words.text(word::ORIGIN, origin);
        }
        let listener = self.listening.listener.as_fd();
        let on_stdin = match self.listening.way_in {
            WayIn::Spawned => descriptors::put_on_stdin(listener),
            _ => {
                words.number(word::LISTEN, listener.as_raw_fd() as u64);
                Ok(())
            }
        };
        // Past some thousand no word fits: those connections end, as idle ones may at any time.
        let kept = self.connections.collected();
        let fits = |kept: &Kept| {
            words.has_room() && words.number(word::KEEP, kept.stream.as_fd().as_raw_fd() as u64)
        };
        let passed_on = kept.iter().map(fits).filter(|fits| *fits).count();
        drop(kept);
        tracing::info!(
            "Becoming the new version; {passed_on} idle connections go along, {in_progress} others \
             are finished by a copy of this process."
        );
        let error = match on_stdin {
            Ok(()) => renewer.image.exec(&mut words),
            Err(error) => error,
        };
        // The copy has not begun yet, and ends.
        drop(original);
        if self.listening.way_in == WayIn::Spawned
            && let Err(error) = descriptors::replace_stdin_with_null()
        {
            tracing::error!("Descriptor 0 is still the listening socket: {error}.");
        }
        drop(held);
        if error.kind() == io::ErrorKind::ExecutableFileBusy {
            tracing::info!("The new version is being written; it is tried again soon.");
            renewer.postpone(true);
        } else {
            tracing::error!(
                "The new version could not be executed, and this one goes on: {error}."
            );
            renewer.give_up();
        }
        GivenWay::NotNow
    }

    /// Finishes what was in progress when the process became another program, and ends.
    async fn finish_as_copy(self) {
        fatal::end_afterwards();
        fatal::set_listener(None, false);
        let Server { application, listening, connections, mut signals, renewer } = self;
        // They are the new program's.
        drop((connections.stop_collecting(), listening, renewer));
        connections.drain();
        tracing::info!(open = connections.len(), "Finishing what the former version has begun.");
        let mut patience = None;
        poll_fn(|context: &mut Context<'_>| {
            // It comes from the process itself, or when that has ended.
            while signals.poll_recv(context).is_ready() {
                patience.get_or_insert_with(|| time::sleep(application.settings.drain_timeout));
            }
            if let Some(patience) = &mut patience
                && Pin::new(patience).poll(context).is_ready()
            {
                tracing::warn!(open = connections.len(), "Ending before all was finished.");
                return Poll::Ready(());
            }
            connections.poll_fewer_than(1, context)
        })
        .await;
        tracing::info!("Finished what the former version had begun.");
        fork::leave(0);
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
        // `signals` lives on: a second signal must not end the process by its default action.
        let Server { application, listening, connections, signals: _signals, renewer: _ } = self;
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

/// How long what is in progress may take to finish before a copy of the process does it: accepting pauses
/// meanwhile.
const FINISHING: Duration = Duration::from_secs(1);

/// How many copies may be at work at once. Hosts count processes.
const MOST_COPIES: usize = 4;

/// How long renewing waits for exchanges that run child processes.
const CHILDREN_PATIENCE: Duration = Duration::from_secs(60);

fn is_allowed(allowed: &[IpAddr], peer: IpAddr) -> bool {
    allowed.iter().any(|address| address.to_canonical() == peer.to_canonical())
}
