//! The site as a hosted program.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use app_server::{Address, Host};
use hosted::config::{CommandLine, Keys};
use hosted::findings::Findings;
use hosted::report::Failure;
use hosted::store::{Done, Keeps, Schema, Store, StoreError, Trust};
use hosted::{App, By, Introduction, Start};
use site::LoginSettings;
use site::login::KEY_FILE;

use crate::application::{self, Site, SiteHost};
use crate::config::{self, Configuration, OwnSettings, Settings};
use crate::flags::Command;
use crate::installation::KEY;
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
        let LoginSettings { data, set_up_file, .. } = application::login(settings);
        [Some(KEY.within(&data)), set_up_file].into_iter().flatten().collect()
    }

    async fn restore(&self, store: &Store, backup: &Path) -> Result<Option<PathBuf>, StoreError> {
        site::login::restore(store, backup, &self.schemas(store)).await
    }

    fn remark(&self, settings: &Settings, done: Done<'_>) -> String {
        match done {
            Done::BackedUp => commands::blobs::remark(settings, |place| {
                format!(
                    "The blobs in {place} are not in it: copy them with `toolshed blobs copy FOLDER`.\n"
                )
            }),
            Done::Restored => "All browsers have been logged out.\n".to_owned(),
            Done::MovedToFolder(folder) => {
                key_remark(settings, folder) + &moved_without_blobs(settings)
            }
            Done::MovedToPostgres => moved_without_blobs(settings),
        }
    }
}

/// What to do about the secret key, if the store is in another folder now.
fn key_remark(settings: &Settings, folder: &Path) -> String {
    let key = KEY.within(&application::login(settings).data);
    if !fs::exists(&key).unwrap_or(false) || folder.join(KEY_FILE).exists() {
        return String::new();
    }
    format!(
        "Copy {} there, too: without it, all browsers are logged out and second factors lost.\n",
        key.display()
    )
}

fn moved_without_blobs(settings: &Settings) -> String {
    commands::blobs::remark(settings, |place| {
        format!("Blobs are not part of the store: they are still in {place}.\n")
    })
}
