//! Every setting of a program, and how they are loaded.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::key::Key;
use super::problem::Location;
use super::{CommandLine, Configuration, Settings, Value, general, nearest};
use crate::installation::{SETTINGS, home};
use crate::program::Program;
use crate::report::Failure;

/// The settings that a program has: its own, and those of every program.
pub struct Keys<O> {
    program: Program,
    keys: Vec<Key<O>>,
    secret: &'static [&'static str],
    commands: &'static [(&'static str, &'static str)],
    other: Vec<Variable<O>>,
    not_settings: Vec<&'static str>,
    check: fn(&mut Configuration<O>),
}

/// An environment variable that is not named after the program.
pub struct Variable<O> {
    /// Its name.
    pub name: &'static str,
    /// What it sets.
    pub takes: Takes<O>,
}

/// What a variable sets.
pub enum Takes<O> {
    /// The value of a key.
    Key(&'static str),
    /// Something that has no key.
    Text(fn(&mut Settings<O>, &str)),
}

impl<O: Default> Keys<O> {
    /// The settings of a program. Of `own`, one with the name of a general setting takes its place.
    pub fn new(program: Program, own: Vec<Key<O>>) -> Self {
        let mut keys = own;
        let general = general::keys();
        let is_new = |key: &Key<O>| keys.iter().all(|own| own.name != key.name);
        let new: Vec<_> = general.into_iter().filter(is_new).collect();
        keys.extend(new);
        let (other, not_settings) = (Vec::new(), Vec::new());
        Keys { program, keys, secret: &[], commands: &[], other, not_settings, check: |_| {} }
    }

    /// Names the settings whose values are never shown.
    #[must_use]
    pub fn secret(self, secret: &'static [&'static str]) -> Self {
        Keys { secret, ..self }
    }

    /// Names the commands that set a setting: the key's name and the command's.
    #[must_use]
    pub fn commands(self, commands: &'static [(&'static str, &'static str)]) -> Self {
        Keys { commands, ..self }
    }

    /// Adds variables that are not named after the program.
    #[must_use]
    pub fn variables(self, other: Vec<Variable<O>>) -> Self {
        Keys { other, ..self }
    }

    /// Names variables of the program that are no settings, without its name: they are no typos.
    #[must_use]
    pub fn not_settings(self, not_settings: Vec<&'static str>) -> Self {
        Keys { not_settings, ..self }
    }

    /// Sets what checks the settings together, and what completes them.
    #[must_use]
    pub fn check(self, check: fn(&mut Configuration<O>)) -> Self {
        Keys { check, ..self }
    }

    /// Loads the settings of this process.
    pub fn load(&self, command_line: &CommandLine) -> Configuration<O> {
        self.load_from(command_line, self.environment(), home().as_deref())
    }

    /// Loads the settings for a command run at a terminal.
    ///
    /// # Errors
    ///
    /// If any of them is wrong: all mistakes.
    pub fn load_valid(&self, command_line: &CommandLine) -> Result<Configuration<O>, Failure> {
        let configuration = self.load(command_line);
        if configuration.problems.is_empty() {
            Ok(configuration)
        } else {
            Err(configuration.failure())
        }
    }

    /// The same as [`load`](Self::load), as if `text` were the content of the default file.
    pub fn load_as(&self, command_line: &CommandLine, text: &str) -> Configuration<O> {
        self.gather(command_line, self.environment(), home().as_deref(), Some(text))
    }

    /// Loads the settings from these variables and the default file of this folder.
    pub fn load_from(
        &self,
        command_line: &CommandLine,
        environment: Vec<(String, OsString)>,
        home: Option<&Path>,
    ) -> Configuration<O> {
        self.gather(command_line, environment, home, None)
    }

    /// `instead`: read this text in place of the file's.
    fn gather(
        &self,
        command_line: &CommandLine,
        mut environment: Vec<(String, OsString)>,
        home: Option<&Path>,
        instead: Option<&str>,
    ) -> Configuration<O> {
        let mut configuration = Configuration::new(self.program, command_line);
        environment.sort();
        let (file, named_by) = self.which_file(command_line, &environment, home);
        if let Some(file) = file {
            match instead {
                Some(text) => {
                    configuration.read_text(self, text, &file);
                    configuration.file = Some(file);
                }
                None => configuration.read_file(self, file, named_by),
            }
        }
        configuration.read_environment(self, environment);
        for (flag, key, value) in &command_line.keys {
            configuration.put(self, key, Value::Text(value.clone()), Location::Flag(flag));
        }
        (self.check)(&mut configuration);
        configuration
    }
}

impl<O> Keys<O> {
    /// Returns whose they are.
    pub fn program(&self) -> Program {
        self.program
    }

    /// Returns all of them: first the program's own.
    pub fn iter(&self) -> impl Iterator<Item = &Key<O>> {
        self.keys.iter()
    }

    /// Returns the key of this name.
    pub fn named(&self, name: &str) -> Option<&Key<O>> {
        self.iter().find(|key| key.name == name)
    }

    /// Returns whether the value of a key is never shown.
    pub fn is_secret(&self, key: &Key<O>) -> bool {
        self.secret.contains(&key.name)
    }

    /// Returns the command that sets a key, as it is typed.
    pub(super) fn command_for(&self, key: &str) -> Option<String> {
        let (_, command) = self.commands.iter().find(|(name, _)| *name == key)?;
        Some(format!("{} {command}", self.program.name))
    }

    pub(super) fn other_variables(&self) -> impl Iterator<Item = &Variable<O>> {
        self.other.iter()
    }

    /// Returns the file that [`load`](Self::load) reads; it may be missing.
    pub fn file(&self, command_line: &CommandLine) -> Option<PathBuf> {
        self.which_file(command_line, &self.environment(), home().as_deref()).0
    }

    /// The file that is read, if any, and what named it.
    fn which_file(
        &self,
        command_line: &CommandLine,
        environment: &[(String, OsString)],
        home: Option<&Path>,
    ) -> (Option<PathBuf>, Option<String>) {
        let names_file = self.program.variable("config");
        let variable =
            environment.iter().find(|(name, file)| *name == names_file && !file.is_empty());
        match (&command_line.config, variable) {
            (Some(file), _) => (Some(file.clone()), Some("--config".to_owned())),
            (None, Some((_, file))) => (Some(PathBuf::from(file)), Some(names_file)),
            (None, None) => (home.map(|home| SETTINGS.of(self.program, home)), None),
        }
    }

    /// Returns the variables of this process that may concern settings.
    fn environment(&self) -> Vec<(String, OsString)> {
        let prefix = self.program.variable("");
        std::env::vars_os()
            .filter(|(name, _)| {
                let is_other = self.other.iter().any(|variable| name == variable.name);
                name.as_encoded_bytes().starts_with(prefix.as_bytes()) || is_other
            })
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .collect()
    }

    /// Warns about a variable that is similar to one of the program's: a typo. Others are somebody else's business, such as
    /// the application's own, which are named after it, too: `MY_APP_BASE_ID` is no typo of `MY_APP_BASE`.
    pub(super) fn warning_about(&self, name: &str) -> Option<String> {
        let settings = self.iter().map(|key| key.name);
        let names = settings.chain(["config", "home", "launcher"]).chain(self.not_settings.clone());
        let known: Vec<String> = names.map(|name| self.program.variable(name)).collect();
        if known.iter().any(|known| known == name) {
            return None;
        }
        let nearest = nearest(name, known.iter().map(String::as_str))?;
        if name.strip_prefix(nearest).is_some_and(|rest| rest.starts_with('_')) {
            return None;
        }
        Some(format!("The unknown variable `{name}` has no effect; did you mean `{nearest}`?"))
    }
}
