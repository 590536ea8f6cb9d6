//! What all ways to serve have in common.

use std::rc::Rc;

use app_server::{Server, Transport, Upgrade, Workers};

use crate::app::{App, By, Start, Surroundings};
use crate::config::{Configuration, Settings};
use crate::late_service::{LateService, make};
use crate::report::Failure;
use crate::wrong_settings::WrongSettings;

/// A process that is ready to serve.
pub(crate) struct Serving<O> {
    pub(crate) configuration: Configuration<O>,
    pub(crate) by: By,
    pub(crate) host: Surroundings,
    pub(crate) upgrade: Option<Upgrade>,
}

impl<O: Clone> Serving<O> {
    /// Makes the service, and serves until the process is told to end.
    ///
    /// # Errors
    ///
    /// If it cannot serve. A service that cannot be made is an error only for somebody at a terminal; a web server would
    /// start the process again and again.
    pub(crate) fn run<A: App<Own = O>>(
        self,
        app: &Rc<A>,
        transport: Transport,
    ) -> Result<(), Failure> {
        let Serving { configuration, by, host, upgrade } = self;
        let settings = server_settings(&configuration);
        let is_wrong = !configuration.problems.is_empty() && !app.answers_wrong_settings();
        let serve = async {
            let served = if is_wrong {
                let server =
                    Server::new(WrongSettings::of(&configuration)).settings(settings.clone());
                server.host(host).upgrade(upgrade).serve(transport.clone()).await
            } else {
                let start = Start { configuration, by };
                let is_at_terminal = !matches!(transport, Transport::Spawned | Transport::Cgi);
                match make(&**app, start.clone()).await {
                    Ok(service) => {
                        let server = Server::new(service).settings(settings.clone());
                        server.host(host).upgrade(upgrade).serve(transport.clone()).await
                    }
                    Err(failure) if is_at_terminal => return Err(failure),
                    Err(failure) => {
                        let service = LateService::new(Rc::clone(app), start, &failure);
                        let server = Server::new(service).settings(settings.clone());
                        server.host(host).upgrade(upgrade).serve(transport.clone()).await
                    }
                }
            };
            served.map_err(Failure::from)
        };
        app.runtime().serve(&settings, &transport, serve)?
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
