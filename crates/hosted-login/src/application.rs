//! An application with rows and a login, and nothing else around its service.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};

use app_server::{Address, BasePath, Body, Host};
use axum::Router;
use axum::middleware::map_response;
use axum::routing::future::RouteFuture;
use clap::Subcommand;
use hosted::config::{CommandLine, Configuration, Keys, Settings};
use hosted::findings::Findings;
use hosted::report::Failure;
use hosted::store::{Keeps, SETTING, Schema, Store, StoreError, Trust};
use hosted::{App, Built, By, Introduction, Program, Runtime, Start};
use http::Request;
use site::{Name, ServerFacts};
use tower_service::Service;

use crate::error_pages::{ErrorPages, as_page};
use crate::generated_password::generate;
use crate::settings::{self, GENERATED, OwnerSettings, PASSWORD_HASH};
use crate::{commands, look, request};

/// An application that keeps rows, and whose owner logs in: some of its pages are only for the owner
/// ([`owner_only`](crate::owner_only)). Log, settings, upgrades, check and command line are those of every hosted program.
///
/// The pages `/login`, `/logout`, `/account` and `/set-up` are the login's, `/healthz` and `/readyz` for load balancers; all others
/// are the application's ([`site::around`]).
pub struct Application<F, M> {
    schema: Schema,
    build: F,
    program: Program,
    title: Option<&'static str>,
    marker: PhantomData<fn() -> M>,
}

impl<F, R, M> Application<F, M>
where
    F: Fn(Store) -> R + 'static,
    R: Built<M, Service = Router>,
    M: 'static,
{
    /// An application with rows in tables of this schema, whose router is made by a function of the store: plain or async, also
    /// with a `Result`. It is called what its file is called.
    pub fn new(schema: Schema, build: F) -> Self {
        let program = Program::of_this_file();
        Application { schema, build, program, title: None, marker: PhantomData }
    }

    /// Names the program, whatever its file is called, and says which version it is: usually `env!("CARGO_PKG_NAME")` and
    /// `env!("CARGO_PKG_VERSION")`.
    #[must_use]
    pub fn program(self, program: Program) -> Self {
        Application { program, ..self }
    }

    /// Names the site, as on the login's pages. Default: the program's name.
    #[must_use]
    pub fn title(self, title: &'static str) -> Self {
        Application { title: Some(title), ..self }
    }

    /// Serves the web server that started it, or does what its arguments say. Returns the exit code.
    pub fn main(self) -> ExitCode {
        hosted::run(self)
    }

    fn name(&self) -> Name {
        let program = self.program.name;
        Name { program, title: self.title.unwrap_or(program) }
    }

    fn facts(&self, by: By) -> &'static ServerFacts {
        let facts = match by {
            By::WebServer { is_tcp: true } => request::FACTS_OVER_TCP,
            By::WebServer { is_tcp: false } | By::Http | By::Owner | By::Check => request::FACTS,
        };
        // Once per service: they are as static as the program.
        Box::leak(Box::new(ServerFacts { name: self.name(), ..facts }))
    }
}

impl<F, R, M> App for Application<F, M>
where
    F: Fn(Store) -> R + 'static,
    R: Built<M, Service = Router>,
    M: 'static,
{
    type Own = OwnerSettings;
    type Service = Guarded;
    type Commands = Command;

    fn keys(&self) -> Keys<OwnerSettings> {
        let own = [settings::password_key(), hosted::store::setting()];
        Keys::new(self.program, own.into_iter().chain(settings::keys()).collect())
            .secret(&[PASSWORD_HASH, SETTING])
            .commands(commands::SETTERS)
            .variables(settings::variables())
            .not_settings(vec![GENERATED])
            .check(|configuration| hosted::store::name_machine(&mut configuration.settings))
    }

    fn about(&self) -> String {
        self.title.unwrap_or("A web application").to_owned()
    }

    fn runtime(&self) -> Runtime {
        Runtime::default()
    }

    async fn service(&self, start: Start<OwnerSettings>) -> Result<Guarded, Failure> {
        let settings = &start.configuration.settings;
        let mut site = settings::site(self.program, settings);
        site.asked_by_owner = start.by == By::Owner;
        let store = self.store(settings, start.trust());
        if let Some(login) = &mut site.login {
            login.trust = start.trust();
        }
        let app = (self.build)(store.with_schema(self.schema)).built().await?;
        let app = app.layer(map_response(as_page));
        Ok(Guarded {
            router: site::around(app, &site, self.schemas(&store)),
            program: self.program,
            base: settings.server.base.clone(),
            facts: self.facts(start.by),
        })
    }

    fn host(&self, _: &Settings<OwnerSettings>) -> Rc<dyn Host> {
        Rc::new(ErrorPages(self.name()))
    }

    fn introduce(
        &self,
        listen: &Address,
        configuration: &mut Configuration<OwnerSettings>,
    ) -> Introduction {
        let name = self.program.name;
        let generated = generate(listen, configuration);
        let variable = generated.iter().map(|generated| generated.variable(configuration));
        Introduction {
            variables: variable.collect(),
            greeting: Box::new(move |address| {
                let log_in = generated.as_ref().filter(|generated| generated.keep());
                let log_in = log_in.map_or(String::new(), |generated| {
                    let password = generated.password();
                    format!("\n  Log in with:   {password} (generated, because none is set)")
                });
                format!("{name} serves at {address}\n{log_in}\n  Stop it:       Ctrl-C\n\n")
            }),
        }
    }

    fn check(
        &self,
        findings: &mut Findings,
        configuration: &Configuration<OwnerSettings>,
        site: Option<&Path>,
    ) {
        let consequence = "Until then nobody can log in, and what needs the store fails.";
        look(self, findings, configuration, site, consequence);
    }

    fn run(&self, command: Command, command_line: &CommandLine) -> Result<(), Failure> {
        match &command {
            Command::Password(command) => commands::run(self, command, command_line),
            Command::Store(command) => hosted::store::run(self, command, command_line),
        }
    }
}

impl<F, R, M> Keeps for Application<F, M>
where
    F: Fn(Store) -> R + 'static,
    R: Built<M, Service = Router>,
    M: 'static,
{
    fn store(&self, settings: &Settings<OwnerSettings>, trust: Trust) -> Store {
        let login = settings::login(self.program, settings);
        site::LoginSettings { trust, ..login }.store()
    }

    fn schemas(&self, store: &Store) -> Vec<Schema> {
        vec![store.schema(), self.schema]
    }

    fn own_files(&self, settings: &Settings<OwnerSettings>) -> Vec<PathBuf> {
        settings::own_files(self.program, settings)
    }

    async fn restore(&self, store: &Store, backup: &Path) -> Result<Option<PathBuf>, StoreError> {
        site::login::restore(store, backup, &self.schemas(store)).await
    }

    fn remark(&self, settings: &Settings<OwnerSettings>, done: hosted::store::Done<'_>) -> String {
        settings::remark(self.program, settings, done)
    }
}

/// The commands of an application with a login.
#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Password(commands::Command),
    #[command(flatten)]
    Store(hosted::store::Command),
}

/// The application's router with the login around it.
pub struct Guarded {
    router: Router,
    program: Program,
    /// Where the site is mounted if a request does not show it.
    base: Option<BasePath>,
    facts: &'static ServerFacts,
}

impl Service<Request<Body>> for Guarded {
    type Response = http::Response<axum::body::Body>;
    type Error = Infallible;
    type Future = RouteFuture<Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<Request<Body>>::poll_ready(&mut self.router, context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request::describe(&mut request, self.program, self.base.as_ref(), self.facts);
        self.router.call(request)
    }
}
