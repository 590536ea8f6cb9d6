//! What all ways to serve have in common.

use std::rc::Rc;

use app_server::{HttpService, Server, Transport, Upgrade, Workers};

use crate::app::{App, By, Start, Surroundings};
use crate::config::{Configuration, Settings};
use crate::job::Job;
use crate::late_service::{LateService, make, make_in_time};
use crate::report::Failure;
use crate::wrong_settings::WrongSettings;

/// A process that is ready to serve.
pub(crate) struct Serving<O> {
    pub(crate) configuration: Configuration<O>,
    pub(crate) by: By,
    pub(crate) host: Surroundings,
    pub(crate) upgrade: Option<Upgrade>,
}

impl<O: Clone + 'static> Serving<O> {
    /// Makes the service, and serves until the process is told to end. A service that cannot be made is an error only for
    /// somebody at a terminal; a web server would start the process again and again.
    pub(crate) fn job<A: App<Own = O>>(self, app: &Rc<A>, transport: Transport) -> Job {
        let Serving { configuration, by, host, upgrade } = self;
        let settings = server_settings(&configuration);
        let is_wrong = !configuration.problems.is_empty() && !app.answers_wrong_settings();
        let app = Rc::clone(app);
        Job::serve(settings.clone(), transport.clone(), async move {
            let ready = Ready { settings: &settings, transport: &transport, host, upgrade };
            if is_wrong {
                return ready.serve(WrongSettings::of(&configuration)).await;
            }
            let start = Start::new(configuration, by);
            if !matches!(transport, Transport::Spawned | Transport::Cgi) {
                return ready.serve(make(&*app, start).await?).await;
            }
            match make_in_time(&*app, start.clone()).await {
                Ok(service) => ready.serve(service).await,
                Err(failure) => {
                    ready.serve(LateService::new(Rc::clone(&app), start, &failure)).await
                }
            }
        })
    }
}

/// A server, but for its service.
struct Ready<'a> {
    settings: &'a app_server::Settings,
    transport: &'a Transport,
    host: Surroundings,
    upgrade: Option<Upgrade>,
}

impl Ready<'_> {
    async fn serve(self, service: impl HttpService) -> Result<(), Failure> {
        let server = Server::new(service).settings(self.settings.clone()).host(self.host);
        Ok(server.upgrade(self.upgrade).serve(self.transport.clone()).await?)
    }
}

/// Returns the server's part of the settings.
pub(crate) fn server_settings<O>(configuration: &Configuration<O>) -> app_server::Settings {
    let settings = &configuration.settings;
    let mut server = settings.server.clone();
    server.base_variable = configuration.program.variable("base");
    server.state_folder = settings.data_folder();
    server
}

/// Names this machine in the log and in references, if it has a name.
pub(crate) fn name_node<O>(settings: &Settings<O>) {
    if let Some(node) = &settings.node {
        app_server::set_node(node);
    }
}

/// Returns the workers to supervise; `None` if this process serves itself.
pub(crate) fn workers<O>(settings: &Settings<O>) -> Option<Workers> {
    if *settings.workers.end() == 1 || app_server::is_worker() {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    Some(Workers {
        min: *settings.workers.start(),
        max: *settings.workers.end(),
        program,
        arguments: std::env::args_os().skip(1).collect(),
        variables: Vec::new(),
    })
}
