//! `serve --like HOST`: the program behind a web server as on a host, with the host's rules. This process is the web
//! server; others are the program.

use std::io::{self, IsTerminal};
use std::rc::Rc;

use app_server::{Address, Server, Transport};
use event_loop::signals::{self, Signal};
use host_emulator::{Emulated, Emulator, Host, Rules};

use super::Context;
use super::serve::ADDRESS;
use crate::app::App;
use crate::config::{CommandLine, Configuration, Location};
use crate::flags::Like;
use crate::front::Front;
use crate::job::Job;
use crate::log::{self, Log, Terminal};
use crate::report::Failure;
use crate::upgrade;

/// Serves until SIGTERM or Ctrl-C.
pub(crate) fn job<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
    like: &Like,
) -> Result<Job, Failure> {
    let rules = rules(like)?;
    let configuration = context.keys.load_valid(command_line)?;
    let emulated = emulated(&configuration, rules.host())?;
    let (log, terminal) = log::begin(&configuration);
    log::configuration(&configuration);
    warn_of_variables(&configuration);
    let listen = configuration.settings.listen.clone();
    let transport = Transport::Http(listen.unwrap_or(Address::Tcp(ADDRESS)));
    let terminal = Rc::new(terminal);
    let greeting = Greeting { name: configuration.program.name, rules: rules.clone() };
    let host = Web { greeting, terminal: terminal.clone(), log };
    let settings = app_server::Settings::default();
    let (own_settings, own_transport) = (settings.clone(), transport.clone());
    let work = async move {
        let emulator = Emulator::begin(emulated, rules).map_err(Failure::refused)?;
        let emulator = Rc::new(emulator);
        let reloading = event_loop::spawn(reload(emulator.clone()));
        let server = Server::new(emulator.service()).settings(own_settings).host(host);
        let served = server.serve(own_transport).await;
        drop(reloading);
        emulator.end().await;
        served.map_err(Failure::from)
    };
    let job = Job::serve(settings, transport, work);
    Ok(job.then(move |outcome| terminal.report(outcome)))
}

fn rules(like: &Like) -> Result<Rules, Failure> {
    // Whoever calls this has looked.
    let mut rules = Rules::of(like.host.unwrap_or(Host::ModFcgid));
    for rule in &like.rules {
        rules.set(rule).map_err(|error| Failure::wrong(format!("--rule: {error}.")))?;
    }
    Ok(rules)
}

fn emulated<O>(configuration: &Configuration<O>, host: Host) -> Result<Emulated, Failure> {
    let program = configuration.program;
    let front = match host {
        Host::ModFcgid | Host::CloudLinux => Front::ModFcgid,
        Host::Cgi => Front::ModCgi,
    };
    // Flags and variables of this process are not the program's.
    let log = match configuration.set.get("log") {
        Some((_, Location::Line { .. })) => configuration.settings.log.clone(),
        _ => program.default_log(),
    };
    Ok(Emulated {
        name: program.name.to_owned(),
        program: upgrade::program_file().map_err(|error| {
            Failure::refused(format!("The program's own path is unknown: {error}."))
        })?,
        launcher: program.launcher(),
        log,
        variables: Box::new(move |request| front.variables(request, "", "")),
    })
}

/// Says which settings are set here and would not be on a host.
fn warn_of_variables<O>(configuration: &Configuration<O>) {
    for (key, (_, location)) in &configuration.set {
        let (Location::Variable(name), false) = (location, ["listen", "workers"].contains(key))
        else {
            continue;
        };
        tracing::warn!(
            "Variable {name} is set here, but a host starts the program with an empty environment. Set {key} in {}.toml.",
            configuration.program.name
        );
    }
}

/// Touches the launcher on SIGHUP. At a terminal SIGHUP means that the terminal is gone.
async fn reload(emulator: Rc<Emulator>) {
    if io::stdin().is_terminal() {
        return;
    }
    let mut signals = match signals::listen(&[Signal::Hangup]) {
        Ok(signals) => signals,
        Err(error) => return tracing::warn!("SIGHUP cannot be received: {error}."),
    };
    loop {
        signals.recv().await;
        match emulator.touch() {
            Ok(()) => tracing::info!("SIGHUP received; launcher touched."),
            Err(error) => tracing::error!("Cannot touch the launcher: {error}."),
        }
    }
}

/// What the developer reads first.
struct Greeting {
    name: &'static str,
    rules: Rules,
}

impl Greeting {
    fn at(&self, address: &str) -> String {
        let Greeting { name, rules } = self;
        let host = rules.host();
        format!(
            "{name} serves at {address}, as on a host with {}:\n\n{}  \
             An empty environment (but PATH), SIGTERM at the end and SIGKILL 4 s later.\n\n  \
             Another value: --rule NAME=NUMBER. What is not imposed: docs/your-own-app.md\n  \
             Stop it: Ctrl-C\n\n",
            host.description(),
            rules.table()
        )
    }
}

/// What the server asks of the program around it.
struct Web {
    greeting: Greeting,
    terminal: Rc<Terminal>,
    log: Log,
}

impl app_server::Host for Web {
    fn on_listening(&self, address: &str) {
        self.terminal.print(&self.greeting.at(address));
    }

    fn on_look(&self) {
        self.log.look();
    }
}
