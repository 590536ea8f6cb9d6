//! The site as a hosted program.

use std::path::Path;
use std::rc::Rc;

use app_server::{Address, Host};
use hosted::config::{CommandLine, Keys};
use hosted::findings::Findings;
use hosted::report::Failure;
use hosted::{App, By, Introduction, Start};

use crate::application::{self, Site, SiteHost};
use crate::config::{self, Configuration, OwnSettings, Settings};
use crate::flags::Command;
use crate::{commands, generated_password};

/// The site.
pub(crate) struct Toolshed;

impl App for Toolshed {
    type Own = OwnSettings;
    type Service = Site;
    type Commands = Command;

    fn keys(&self) -> Keys<OwnSettings> {
        config::keys()
    }

    fn about(&self) -> String {
        "A tools site, and a server for it, for the hosting most people can afford".to_owned()
    }

    fn answers_wrong_settings(&self) -> bool {
        true
    }

    async fn service(&self, start: Start<OwnSettings>) -> Result<Site, Failure> {
        let configuration = start.configuration;
        Ok(match start.by {
            By::Http => application::site_over_http(configuration),
            By::WebServer { is_tcp: true } => application::site(configuration).reached_over_tcp(),
            By::WebServer { is_tcp: false } | By::Check => application::site(configuration),
            By::Owner => application::site_for_the_owner(configuration),
        })
    }

    fn host(&self, settings: &Settings) -> Rc<dyn Host> {
        Rc::new(SiteHost::new(settings))
    }

    fn introduce(&self, listen: &Address, configuration: &mut Configuration) -> Introduction {
        generated_password::introduce(listen, configuration)
    }

    fn check(&self, findings: &mut Findings, configuration: &Configuration, site: Option<&Path>) {
        commands::check::run(findings, configuration, site);
    }

    fn check_site(&self, findings: &mut Findings, folder: &Path) {
        commands::check::static_files(findings, folder);
    }

    fn run(&self, command: Command, command_line: &CommandLine) -> Result<(), Failure> {
        commands::run(&command, command_line)
    }
}
