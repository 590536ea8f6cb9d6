//! What a program is made of: its settings, its service, its own commands.

use std::fmt;
use std::path::Path;
use std::rc::Rc;

use app_server::{Address, ErrorReport, Host, HttpService, Part};
use bytes::Bytes;
use clap::Subcommand;
use http::{Response, Uri};

use crate::config::{CommandLine, Configuration, Keys, Settings};
use crate::findings::Findings;
use crate::log::Log;
use crate::parts::Parts;
use crate::report::Failure;
use crate::runtime::Runtime;
use crate::threads::Threads;

/// A program around a service. What has a default can be left out.
pub trait App: 'static {
    /// The program's own settings.
    type Own: Clone + Default + fmt::Debug + 'static;
    /// What answers requests.
    type Service: HttpService;
    /// The program's own commands; [`NoCommands`] without any.
    type Commands: Subcommand;

    /// Returns all settings, with the program's name and version.
    fn keys(&self) -> Keys<Self::Own>;

    /// Returns what `--help` says that the program is: one line without a period.
    fn about(&self) -> String;

    /// Returns in which runtime the service is made and served. Default: our loop alone.
    fn runtime(&self) -> Runtime {
        Runtime::Bare
    }

    /// Returns what is around the service. Default: everything.
    fn parts(&self) -> Parts {
        Parts::default()
    }

    /// Returns whether the service answers by itself while the settings have mistakes. Default: no; then visitors get a few
    /// lines of text, and the service is not made.
    fn answers_wrong_settings(&self) -> bool {
        false
    }

    /// Returns whether something that should be the same for all processes may be in the memory of each: then the log says if
    /// there are several. Default: no.
    fn may_keep_state_in_memory(&self) -> bool {
        false
    }

    /// Makes the service, on the loop that will serve it; again later if that fails behind a web server.
    ///
    /// # Errors
    ///
    /// Why it cannot be made.
    fn service(
        &self,
        start: Start<Self::Own>,
    ) -> impl Future<Output = Result<Self::Service, Failure>>;

    /// Returns what the server asks of the program: parts, error pages. Default: nothing.
    fn host(&self, _: &Settings<Self::Own>) -> Rc<dyn Host> {
        struct Plain;
        impl Host for Plain {}
        Rc::new(Plain)
    }

    /// Prepares to serve at a terminal, before anything listens, and returns what is said when it does.
    fn introduce(&self, _: &Address, _: &mut Configuration<Self::Own>) -> Introduction {
        let name = self.keys().program().name;
        Introduction {
            variables: Vec::new(),
            greeting: Box::new(move |address| {
                format!("{name} serves at {address}\n\n  Stop it: Ctrl-C\n\n")
            }),
        }
    }

    /// Adds what `check` finds out about the program's own things. `site`: the folder with the launcher in it.
    fn check(&self, _: &mut Findings, _: &Configuration<Self::Own>, _site: Option<&Path>) {}

    /// Adds what `check` finds out about what the web server may send by itself, in the folder with the launcher in it.
    fn check_site(&self, _: &mut Findings, _: &Path) {}

    /// Runs one of the program's own commands.
    ///
    /// # Errors
    ///
    /// What is printed, with the exit code.
    fn run(&self, command: Self::Commands, command_line: &CommandLine) -> Result<(), Failure>;
}

/// For programs without commands of their own.
#[derive(Debug, Subcommand)]
pub enum NoCommands {}

/// How the process was started, with which settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Start<O = ()> {
    /// The settings.
    pub configuration: Configuration<O>,
    /// How requests arrive.
    pub by: By,
}

impl<O> Start<O> {
    pub(crate) fn new(configuration: Configuration<O>, by: By) -> Self {
        Start { configuration, by }
    }
}

#[cfg(feature = "store")]
impl<O> Start<O> {
    /// Returns whose folder the store may be in: root serves nobody from another account's.
    pub fn trust(&self) -> storage::Trust {
        match self.by {
            By::Owner => storage::Trust::of_command(),
            By::Http | By::WebServer { .. } | By::Check => storage::Trust::default(),
        }
    }
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Over HTTP, from visitors or a proxy.
    Http,
    /// From a web server in front. `is_tcp`: by an address that others may reach, too.
    WebServer {
        /// Whether the socket is a TCP port.
        is_tcp: bool,
    },
    /// From a shell of the account, which is the owner's.
    Owner,
    /// None from visitors: a version is being checked.
    Check,
}

/// What is said to somebody who starts the program at a terminal.
pub struct Introduction {
    /// Variables for workers, and for later versions of the process.
    pub variables: Vec<(String, String)>,
    /// What is printed when it listens at an address.
    pub greeting: Box<dyn Fn(&str) -> String>,
}

/// What to do once the listening socket is open, with its address.
type OnListening = Box<dyn Fn(&str)>;

/// The program's host, and what this crate does beside it.
pub(crate) struct Surroundings {
    host: Rc<dyn Host>,
    on_listening: Vec<OnListening>,
    log: Option<Log>,
    threads: Threads,
}

impl Surroundings {
    pub(crate) fn of<A: App>(app: &A, settings: &Settings<A::Own>) -> Self {
        Surroundings {
            host: app.host(settings),
            on_listening: Vec::new(),
            log: None,
            threads: Threads::default(),
        }
    }

    /// Adds what to do once the listening socket is open.
    pub(crate) fn on_listening(mut self, action: impl Fn(&str) + 'static) -> Self {
        self.on_listening.push(Box::new(action));
        self
    }

    /// Sets the log whose file is checked whenever the server looks at files.
    pub(crate) fn log(self, log: Log) -> Self {
        Surroundings { log: Some(log), ..self }
    }
}

impl Host for Surroundings {
    fn classify(&self, uri: &Uri) -> Part {
        self.host.classify(uri)
    }

    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        self.host.error_page(report)
    }

    fn on_listening(&self, address: &str) {
        self.host.on_listening(address);
        self.on_listening.iter().for_each(|action| action(address));
    }

    fn on_look(&self) {
        if let Some(log) = &self.log {
            log.look();
        }
        self.threads.look();
        self.host.on_look();
    }
}
