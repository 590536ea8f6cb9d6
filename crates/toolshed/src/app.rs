//! The site as a hosted program.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use app_server::{Address, Host};
use hosted::config::{CommandLine, Keys};
use hosted::findings::Findings;
use hosted::report::Failure;
use hosted::store::{Done, Keeps, Schema, Store, StoreError, Trust};
use hosted::{App, By, Introduction, Start};
use hosted_login::Printed;
use site::LoginSettings;

use crate::application::{self, Site, SiteHost};
use crate::commands;
use crate::config::{self, Configuration, OwnSettings, Settings};
use crate::flags::Command;
use crate::installation::PROGRAM;

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
        let generated = hosted_login::generate(listen, configuration);
        // It is printed once, so an upgrade does not change it.
        let variable = generated.iter().map(|generated| generated.variable(configuration));
        Introduction {
            variables: variable.collect(),
            greeting: Box::new(move |address| greeting(generated.as_ref(), address)),
        }
    }

    fn check(&self, findings: &mut Findings, configuration: &Configuration, site: Option<&Path>) {
        commands::check::run(self, findings, configuration, site);
    }

    fn check_site(&self, findings: &mut Findings, folder: &Path) {
        commands::check::static_files(findings, folder);
    }

    fn run(&self, command: Command, command_line: &CommandLine) -> Result<(), Failure> {
        commands::run(self, &command, command_line)
    }
}

impl Keeps for Toolshed {
    fn store(&self, settings: &Settings, trust: Trust) -> Store {
        LoginSettings { trust, ..application::login(settings) }.store()
    }

    fn schemas(&self, store: &Store) -> Vec<Schema> {
        site::schemas(store, tools::TABLE)
    }

    fn own_files(&self, settings: &Settings) -> Vec<PathBuf> {
        hosted_login::settings::own_files(PROGRAM, settings)
    }

    async fn restore(&self, store: &Store, backup: &Path) -> Result<Option<PathBuf>, StoreError> {
        site::login::restore(store, backup, &self.schemas(store)).await
    }

    fn remark(&self, settings: &Settings, done: Done<'_>) -> String {
        let about_blobs =
            |sentence: fn(&str) -> String| commands::blobs::remark(settings, sentence);
        let about_login = hosted_login::settings::remark(PROGRAM, settings, done);
        match done {
            Done::BackedUp => about_blobs(|place| {
                format!(
                    "The blobs in {place} are not in it: copy them with `toolshed blobs copy FOLDER`.\n"
                )
            }),
            Done::Restored => about_login,
            Done::MovedToFolder(_) | Done::MovedToPostgres => {
                about_login
                    + &about_blobs(|place| {
                        format!("Blobs are not part of the store: they are still in {place}.\n")
                    })
            }
        }
    }
}

/// Says where the site is, how to stop it and what to do next.
fn greeting(generated: Option<&Printed>, address: &str) -> String {
    let log_in =
        generated.filter(|generated| generated.keep()).map_or(String::new(), |generated| {
            format!("\n  Log in with:   {} (generated, because none is set)", generated.password())
        });
    format!(
        "Toolshed serves the site at {address}\n\
         \n  Look at it:    open that address in a browser{log_in}\
         \n  Stop it:       Ctrl-C\
         \n  Put it online: docs/deploying.md (Apache, nginx, lighttpd)\
         \n  Add a tool:    docs/adding-a-tool.md\n\n"
    )
}
