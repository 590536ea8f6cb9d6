//! An application that is only a service: what [`main`] runs.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use app_server::{ErrorReport, Host, HttpService};
use bytes::Bytes;
use clap::Subcommand;
use http::Response;

use crate::app::{App, NoCommands, Start};
use crate::commands::run;
#[cfg(feature = "tokio")]
use crate::commands::run_in_this_tokio;
use crate::config::{CommandLine, Configuration, Keys, Settings};
use crate::error_pages::ErrorPages;
use crate::findings::Findings;
use crate::late_service::not_made;
use crate::parts::Parts;
use crate::program::Program;
use crate::report::Failure;
use crate::runtime::Runtime;

/// Runs an application: `fn main() -> ExitCode { hosted::main(router) }`.
///
/// `router` is a function that makes the service, such as an axum `Router`: a plain or an async one, which may also return a
/// `Result`. It is called once, in the runtime that will serve; again if it fails or takes longer than 30 s behind a web
/// server, where visitors get a 503 meanwhile. The program is called what its file is called; see [`Application`] for more.
pub fn main<M: 'static>(build: impl Build<M>) -> ExitCode {
    Application::new(build).main()
}

/// Serves an application in the tokio runtime that it has, instead of `axum::serve(listener, router)`. That has to be a
/// `current_thread` runtime; otherwise the program ends with a message that says so.
///
/// ```no_run
/// # use std::process::ExitCode;
/// # use axum::{Router, routing::get};
/// #[tokio::main(flavor = "current_thread")]
/// async fn main() -> ExitCode {
///     let router = Router::new().route("/", get(|| async { "Hello" }));
///     hosted::serve(router).await
/// }
/// ```
///
/// All that comes with [`main`](fn@main) comes with it, but for what happens before: a panic in it, or a database that is not
/// there, ends the process, and visitors see what the web server makes of that. Tasks of the runtime (`tokio::spawn`) are not
/// interrupted if they never come to an end.
#[cfg(feature = "tokio")]
pub async fn serve<S: HttpService + Clone>(service: S) -> ExitCode {
    Application::new(move || service.clone()).serve().await
}

/// An application that is only a service. Log, settings, upgrades, check and command line are those of every program. `K` is
/// what it keeps: nothing, or what [`with_store`](Application::with_store) says.
pub struct Application<B, M, K = KeepsNothing> {
    build: B,
    program: Program,
    about: String,
    runtime: Runtime,
    error_pages: ErrorPages,
    parts: Parts,
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "there is nothing to keep"))]
    keeps: K,
    marker: PhantomData<fn() -> M>,
}

impl<M: 'static, B: Build<M>> Application<B, M> {
    /// An application with this service, called what its file is called.
    pub fn new(build: B) -> Self {
        Application::of(build, KeepsNothing)
    }
}

impl<M: 'static, B: Build<M>, K: WhatIsKept> Application<B, M, K> {
    pub(crate) fn of(build: B, keeps: K) -> Self {
        let program = Program::of_this_file();
        let about = "A web application".to_owned();
        let runtime = Runtime::default();
        Application {
            build,
            program,
            about,
            runtime,
            error_pages: ErrorPages::default(),
            parts: Parts::default(),
            keeps,
            marker: PhantomData,
        }
    }

    /// Names the program, whatever its file is called: letters, digits, `-` and `_`. Usually `env!("CARGO_PKG_NAME")`.
    #[must_use]
    pub fn name(mut self, name: &'static str) -> Self {
        self.program.name = name;
        self
    }

    /// Says which version it is. Usually `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.program.version = version;
        self
    }

    /// Says in one line, without a period, what it is: for `--help`.
    #[must_use]
    pub fn about(mut self, about: &str) -> Self {
        about.clone_into(&mut self.about);
        self
    }

    /// Sets in which runtime it is served. Default: tokio, if the feature `tokio` is on.
    #[must_use]
    pub fn runtime(self, runtime: Runtime) -> Self {
        Application { runtime, ..self }
    }

    /// Leaves out reloads by a touch and new versions: see [`Parts::upgrades`].
    #[must_use]
    pub fn without_upgrades(mut self) -> Self {
        self.parts.upgrades = false;
        self
    }

    /// Leaves out the log file: see [`Parts::log_file`].
    #[must_use]
    pub fn without_log_file(mut self) -> Self {
        self.parts.log_file = false;
        self
    }

    /// Leaves out the commands: see [`Parts::command_line`].
    #[must_use]
    pub fn without_command_line(mut self) -> Self {
        self.parts.command_line = false;
        self
    }

    /// Sets what visitors see when a request fails: a handler with an [`HttpError`](crate::HttpError), a panic, a crash, too many
    /// requests. The pages after a crash are made in advance, so it says the same each time, in 48 KiB at most. Default: a few lines of
    /// text with status and reference.
    ///
    /// The response gets the report's status; it is HTML, and kept by no cache, unless it says otherwise.
    ///
    /// ```no_run
    /// use hosted::{Application, ErrorReport};
    /// use http::Response;
    ///
    /// fn error_page(report: &ErrorReport) -> Response<String> {
    ///     // Escape what handlers say if it repeats what a visitor has sent.
    ///     let words = report.message().unwrap_or("Something went wrong.");
    ///     let (status, base, reference) = (report.status, &report.base, &report.reference);
    ///     Response::new(format!("<h1>{status}</h1><p>{words}<p>{reference}<p><a href='{base}/'>Home</a>"))
    /// }
    ///
    /// # fn main() -> std::process::ExitCode {
    /// # let router = axum::Router::<()>::new;
    /// Application::new(router).error_page(error_page).main()
    /// # }
    /// ```
    #[must_use]
    pub fn error_page<P: Into<Bytes>>(
        self,
        page: impl Fn(&ErrorReport) -> Response<P> + 'static,
    ) -> Self {
        Application { error_pages: ErrorPages::made_by(page), ..self }
    }

    /// Serves the web server that started the program, or does what its arguments say. Returns the exit code.
    pub fn main(self) -> ExitCode {
        run(self)
    }

    #[cfg(feature = "store")]
    pub(crate) fn program(&self) -> Program {
        self.program
    }

    #[cfg(feature = "store")]
    pub(crate) fn keeps(&self) -> &K {
        &self.keeps
    }

    /// Same as [`main`](Self::main), in the tokio `current_thread` runtime that the caller is in: see [`serve`](fn@serve).
    #[cfg(feature = "tokio")]
    pub async fn serve(self) -> ExitCode {
        run_in_this_tokio(self).await
    }
}

impl<M: 'static, B: Build<M>, K: WhatIsKept> App for Application<B, M, K> {
    type Own = ();
    type Service = B::Service;
    type Commands = K::Commands;

    fn keys(&self) -> Keys<()> {
        K::keys(self.program)
    }

    fn about(&self) -> String {
        self.about.clone()
    }

    fn runtime(&self) -> Runtime {
        self.runtime
    }

    fn parts(&self) -> Parts {
        self.parts
    }

    fn may_keep_state_in_memory(&self) -> bool {
        K::IS_NOTHING
    }

    fn host(&self, _: &Settings<()>) -> Rc<dyn Host> {
        self.error_pages.host()
    }

    async fn service(&self, start: Start) -> Result<B::Service, Failure> {
        self.build.build(start).await
    }

    fn check(&self, findings: &mut Findings, configuration: &Configuration<()>, _: Option<&Path>) {
        K::check(self, findings, configuration);
    }

    fn run(&self, command: K::Commands, command_line: &CommandLine) -> Result<(), Failure> {
        K::run(self, command, command_line)
    }
}

/// What an [`Application`] keeps: [`KeepsNothing`], or rows, with the feature `store`.
pub trait WhatIsKept: Sealed {
    #[doc(hidden)]
    const IS_NOTHING: bool = false;
    #[doc(hidden)]
    type Commands: Subcommand;
    #[doc(hidden)]
    fn keys(program: Program) -> Keys<()>;
    #[doc(hidden)]
    fn check<M: 'static, B: Build<M>>(
        app: &Application<B, M, Self>,
        findings: &mut Findings,
        configuration: &Configuration<()>,
    ) where
        Self: Sized;
    #[doc(hidden)]
    fn run<M: 'static, B: Build<M>>(
        app: &Application<B, M, Self>,
        command: Self::Commands,
        command_line: &CommandLine,
    ) -> Result<(), Failure>
    where
        Self: Sized;
}

/// Only this crate knows what an application may keep.
pub trait Sealed: 'static {}

/// Nothing.
#[derive(Clone, Copy, Debug)]
pub struct KeepsNothing;

impl Sealed for KeepsNothing {}

impl WhatIsKept for KeepsNothing {
    const IS_NOTHING: bool = true;
    type Commands = NoCommands;

    fn keys(program: Program) -> Keys<()> {
        Keys::new(program, Vec::new())
    }

    fn check<M: 'static, B: Build<M>>(
        _: &Application<B, M>,
        _: &mut Findings,
        _: &Configuration<()>,
    ) {
    }

    fn run<M: 'static, B: Build<M>>(
        _: &Application<B, M>,
        command: NoCommands,
        _: &CommandLine,
    ) -> Result<(), Failure> {
        match command {}
    }
}

/// A function that makes a service: plain or async, with or without a `Result`. `M` says which of these it is, and is found
/// out by the compiler.
#[diagnostic::on_unimplemented(
    message = "pass a function that makes the service, such as `|| router` or `async fn router() -> Router`: `{Self}` is none",
    label = "not a function without arguments",
    note = "in async code that has the service already: `hosted::serve(router).await`"
)]
pub trait Build<M>: 'static {
    /// What it makes.
    type Service: HttpService;

    /// Makes it.
    ///
    /// # Errors
    ///
    /// What the function says.
    fn build(&self, start: Start) -> impl Future<Output = Result<Self::Service, Failure>>;
}

impl<F, R, M> Build<M> for F
where
    F: Fn() -> R + 'static,
    R: Built<M>,
{
    type Service = R::Service;

    async fn build(&self, _: Start) -> Result<R::Service, Failure> {
        self().built().await
    }
}

/// What a function that makes a service may return: the service, a `Result` with it, or a future of one of these.
#[diagnostic::on_unimplemented(
    message = "a router needs `.with_state(…)`, and a handler needs a router: `{Self}` is not a service",
    label = "has to return a service (such as `Router`), or a `Result` with one, or a future of these",
    note = "a `Router<State>` becomes a `Router` by `.with_state(state)`",
    note = "a handler is put into a router: `Router::new().route(\"/\", get(handler))`",
    note = "what `.into_make_service()` returns makes services: leave the call out",
    note = "a service must not fail: in axum, `HandleError` makes responses of errors",
    note = "the error of a `Result` needs to be `Display`"
)]
pub trait Built<M> {
    /// The service.
    type Service: HttpService;

    /// Returns it when it is there.
    ///
    /// # Errors
    ///
    /// Why there is none.
    fn built(self) -> impl Future<Output = Result<Self::Service, Failure>>;
}

/// Marks a service.
#[derive(Debug)]
pub enum Plain {}

/// Marks a `Result` with a service.
#[derive(Debug)]
pub enum PlainResult {}

/// Marks the future of a service.
#[derive(Debug)]
pub enum Async {}

/// Marks the future of a `Result` with a service.
#[derive(Debug)]
pub enum AsyncResult {}

impl<S: HttpService> Built<Plain> for S {
    type Service = S;

    async fn built(self) -> Result<S, Failure> {
        Ok(self)
    }
}

impl<S: HttpService, E: fmt::Display> Built<PlainResult> for Result<S, E> {
    type Service = S;

    async fn built(self) -> Result<S, Failure> {
        self.map_err(not_made)
    }
}

impl<S: HttpService, R: Future<Output = S>> Built<Async> for R {
    type Service = S;

    async fn built(self) -> Result<S, Failure> {
        Ok(self.await)
    }
}

impl<S, E, R> Built<AsyncResult> for R
where
    S: HttpService,
    E: fmt::Display,
    R: Future<Output = Result<S, E>>,
{
    type Service = S;

    async fn built(self) -> Result<S, Failure> {
        self.await.map_err(not_made)
    }
}
