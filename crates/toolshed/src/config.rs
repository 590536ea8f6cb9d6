//! The settings: flags, the environment and `toolshed.toml` → one plain struct, checked once.
//!
//! Flags take precedence over the environment, which takes precedence over the file. All mistakes are collected,
//! not only the first: at a terminal they are reported and end the program; under FastCGI visitors get a page and
//! the log gets the mistakes (`commands/`). The settings themselves are in `config/keys.rs`.

mod custom;
mod edit;
mod key;
mod keys;
mod node;
mod problem;
mod quantity;
mod value;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use app_server::Address;
use site::Password;
use site::blobs::{AddressStyle, BlobError, BlobSettings, Blobs, S3Settings};
use site::login::CookiePath;
use site::storage::DatabaseUrl;
use toml::Spanned;
use toml::de::DeTable;

pub(crate) use edit::with_text;
pub(crate) use key::Key;
pub(crate) use keys::KEYS;
pub(crate) use problem::{Location, Problem};
use value::Value;

use crate::installation::{HOME_VARIABLE, LAUNCHER_VARIABLE, SETTINGS, home};

/// Names the file, in the environment.
pub(crate) const FILE_VARIABLE: &str = "TOOLSHED_CONFIG";

/// Holds the password that `serve` has generated, for its workers and for later versions of the process.
pub(crate) const GENERATED_VARIABLE: &str = "TOOLSHED_GENERATED_PASSWORD";

/// Bytes of a settings file. A longer file is not one.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the names of our variables start with.
const PREFIX: &str = "TOOLSHED_";

/// The owner's password in the environment: itself, and a hash of it. Named as many applications name it.
const PASSWORD_VARIABLE: &str = "APP_PASSWORD";
const HASH_VARIABLE: &str = "APP_PASSWORD_HASH";

/// The settings, as the rest of the program uses them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Where `serve` and `fastcgi` listen.
    pub(crate) listen: Option<Address>,
    /// How many processes `serve` and `fastcgi` keep, minimum and maximum.
    pub(crate) workers: RangeInclusive<usize>,
    /// Where messages go; `None`: the transport's default.
    pub(crate) log: Option<PathBuf>,
    /// Bytes of a log file after which a new one is started.
    pub(crate) log_bytes: u64,
    /// The public tools, by name; `all` stands for those that do not have to be named.
    pub(crate) public: BTreeSet<String>,
    /// The owner's password.
    pub(crate) password: Option<Password>,
    /// The folder of the site's state; `None`: beside the program.
    pub(crate) data: Option<PathBuf>,
    /// The database of the store; `None`: a file in the folder `data`.
    pub(crate) database: Option<DatabaseUrl>,
    /// The S3 store that keeps blobs, as far as it is set; without an endpoint, blobs are in a folder. Style and
    /// addresses are in the two below.
    pub(crate) s3: S3Settings,
    /// How addresses name the bucket; `None`: see [`Settings::blobs`].
    pub(crate) s3_style: Option<AddressStyle>,
    /// Whether visitors are redirected to the S3 store; `None`: see [`Settings::blobs`].
    pub(crate) s3_redirect: Option<bool>,
    /// After how long without a request a session ends.
    pub(crate) session_idle: Duration,
    /// After how long a session ends in any case.
    pub(crate) session_longest: Duration,
    /// The path below which cookies are sent; `None`: where the site is mounted.
    pub(crate) cookie_path: Option<CookiePath>,
    /// Whether requests over HTTP are redirected to HTTPS.
    pub(crate) redirects_to_https: bool,
    /// How long browsers are told to use only HTTPS; zero disables it; `None`: see [`Settings::hsts`].
    pub(crate) hsts: Option<Duration>,
    /// The name of this machine, one of several that serve the site.
    pub(crate) node: Option<String>,
    /// Where the site is mounted if a request does not show it: `/project`.
    pub(crate) base: Option<String>,
    /// Whether visitors read what is wrong with the configuration.
    pub(crate) show_configuration_errors: bool,
    /// The server's own.
    pub(crate) server: app_server::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        let mut server = app_server::Settings::default();
        // Half of what small accounts get.
        server.memory = Some(512 << 20);
        Settings {
            listen: None,
            workers: 1..=1,
            log: None,
            log_bytes: 2 << 20,
            public: BTreeSet::new(),
            password: None,
            data: None,
            database: None,
            s3: S3Settings::new("", "us-east-1", "", "", ""),
            s3_style: None,
            s3_redirect: None,
            session_idle: Duration::from_secs(7 * 24 * 3600),
            session_longest: Duration::from_secs(30 * 24 * 3600),
            cookie_path: None,
            redirects_to_https: false,
            hsts: None,
            node: None,
            base: None,
            show_configuration_errors: false,
            server,
        }
    }
}

impl Settings {
    /// Returns the name of this machine if several serve the site, which they can if its store is on a server. Unless
    /// the owner sets it, it is the host's.
    pub(crate) fn node(&self) -> Option<String> {
        let of_host = || self.database.as_ref().map(|_| node::of_host());
        self.node.clone().or_else(of_host)
    }

    /// How long browsers are told to use only HTTPS. Unless the owner sets it, a day: long enough to be useful,
    /// and short enough to survive a certificate that was not renewed. With HTTPS for everyone, half a year,
    /// which is what scanners ask for.
    pub(crate) fn hsts(&self) -> Duration {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        const HALF_A_YEAR: Duration = Duration::from_secs(4380 * 3600);
        self.hsts.unwrap_or(if self.redirects_to_https { HALF_A_YEAR } else { DAY })
    }

    /// Where blobs are kept: in the S3 store if one is set, otherwise in this folder.
    pub(crate) fn blobs(&self, folder: PathBuf) -> BlobSettings {
        let mut s3 = self.s3.clone();
        if s3.endpoint.is_empty() {
            return BlobSettings::Folder(folder);
        }
        // A bucket with a dot is not covered by the certificate for *.s3….amazonaws.com.
        let is_aws = s3.endpoint.trim_end_matches('/').ends_with(".amazonaws.com");
        s3.style = self.s3_style.unwrap_or(match is_aws && !s3.bucket.contains('.') {
            true => AddressStyle::VirtualHost,
            false => AddressStyle::Path,
        });
        s3.has_addresses = self.s3_redirect.unwrap_or(s3.endpoint.starts_with("https:"));
        BlobSettings::S3(s3)
    }
}

/// The part of the command line that concerns settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct CommandLine {
    /// `--config`
    pub(crate) config: Option<PathBuf>,
    /// The flags that are keys, as the flag, the key's name and the value.
    pub(crate) keys: Vec<(&'static str, &'static str, String)>,
}

/// The settings, and where they come from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    /// The command line, to load them again.
    pub(crate) command_line: CommandLine,
    /// All valid settings, and defaults for the rest.
    pub(crate) settings: Settings,
    /// The file that was read.
    pub(crate) file: Option<PathBuf>,
    /// Its text as it was read; empty without a file.
    pub(crate) text: String,
    /// What was set, by key: the value as written, and where.
    pub(crate) set: BTreeMap<&'static str, (Value, Location)>,
    /// The mistakes, in the order in which they were written.
    pub(crate) problems: Vec<Problem>,
    /// What looks like a mistake but may be intended.
    pub(crate) warnings: Vec<String>,
    /// The mistakes in the file that the last good one replaces.
    pub(crate) instead_of: Vec<Problem>,
}

/// Loads the settings of this process.
pub(crate) fn load(command_line: &CommandLine) -> Configuration {
    gather(command_line, environment(), home().as_deref())
}

/// The same, as if `text` were the content of the default file.
pub(crate) fn load_as(command_line: &CommandLine, text: &str) -> Configuration {
    gather_with(command_line, environment(), home().as_deref(), Some(text))
}

/// Returns the file that [`load`] reads; it may be missing.
pub(crate) fn file_of(command_line: &CommandLine) -> Option<PathBuf> {
    which_file(command_line, &environment(), home().as_deref()).0
}

/// Reads a whole settings file, without blocking if it is a pipe.
///
/// # Errors
///
/// Any from the file system; also if it is not a regular file, too long, or not UTF-8.
pub(crate) fn read_text(file: &Path) -> io::Result<String> {
    let (_, bytes) = atomic_file::read_small(file, MAX_FILE_BYTES)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn environment() -> Vec<(String, OsString)> {
    std::env::vars_os()
        .filter(|(name, _)| {
            let name = name.as_encoded_bytes();
            let is_password = [PASSWORD_VARIABLE, HASH_VARIABLE].map(str::as_bytes).contains(&name);
            name.starts_with(PREFIX.as_bytes()) || is_password
        })
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .collect()
}

/// The environment variable that sets the owner's password; it takes precedence over the file.
pub(crate) fn password_variable(configuration: &Configuration) -> Option<&str> {
    let is_set = |name: &&str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    match configuration.set.get("password_hash") {
        Some((_, Location::Variable(name))) => Some(name),
        _ => Some(PASSWORD_VARIABLE).filter(is_set),
    }
}

/// Returns the file that is read, if any, and what named it.
fn which_file(
    command_line: &CommandLine,
    environment: &[(String, OsString)],
    home: Option<&Path>,
) -> (Option<PathBuf>, Option<&'static str>) {
    let variable =
        environment.iter().find(|(name, file)| name == FILE_VARIABLE && !file.is_empty());
    match (&command_line.config, variable) {
        (Some(file), _) => (Some(file.clone()), Some("--config")),
        (None, Some((_, file))) => (Some(PathBuf::from(file)), Some(FILE_VARIABLE)),
        (None, None) => (home.map(|home| SETTINGS.within(home)), None),
    }
}

fn gather(
    command_line: &CommandLine,
    environment: Vec<(String, OsString)>,
    home: Option<&Path>,
) -> Configuration {
    gather_with(command_line, environment, home, None)
}

/// `instead`: read this text in place of the file's.
fn gather_with(
    command_line: &CommandLine,
    mut environment: Vec<(String, OsString)>,
    home: Option<&Path>,
    instead: Option<&str>,
) -> Configuration {
    let mut configuration =
        Configuration { command_line: command_line.clone(), ..Configuration::default() };
    environment.sort();
    let (file, named_by) = which_file(command_line, &environment, home);
    if let Some(file) = file {
        match instead {
            Some(text) => {
                configuration.read_text(text, &file);
                configuration.file = Some(file);
            }
            None => configuration.read_file(file, named_by),
        }
    }
    configuration.read_environment(environment);
    for (flag, key, value) in &command_line.keys {
        configuration.put(key, Value::Text(value.clone()), Location::Flag(flag));
    }
    configuration.check_s3();
    configuration
}

impl Configuration {
    /// Whether there is a mistake on the command line, which is reported at the terminal.
    pub(crate) fn has_wrong_flags(&self) -> bool {
        self.problems.iter().any(|problem| match problem {
            Problem::BadValue { location, .. } => matches!(location, Location::Flag(_)),
            Problem::Unreadable { named_by, .. } => *named_by == Some("--config"),
            Problem::UnknownKey { .. }
            | Problem::Together { .. }
            | Problem::Syntax { .. }
            | Problem::Twice { .. }
            | Problem::Encoding { .. } => false,
        })
    }

    /// Reads a file. The default one may be missing, and nobody has named it: another account may have put it there.
    fn read_file(&mut self, file: PathBuf, named_by: Option<&'static str>) {
        let read = atomic_file::read_small(&file, MAX_FILE_BYTES).and_then(|(opened, bytes)| {
            if named_by.is_none() {
                refuse_foreign(&file, &opened)?;
            }
            Ok(bytes)
        });
        let bytes = match read {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound && named_by.is_none() => return,
            Err(error) => {
                let message = in_words(&error);
                self.problems.push(Problem::Unreadable { file, named_by, message });
                return;
            }
        };
        match String::from_utf8(bytes) {
            Ok(text) => self.read_text(&text, &file),
            Err(error) => {
                let good = error.utf8_error().valid_up_to();
                let line = line_at(&error.as_bytes()[..good], good);
                self.problems.push(Problem::Encoding { file: file.clone(), line });
            }
        }
        self.file = Some(file);
    }

    fn read_text(&mut self, text: &str, file: &Path) {
        text.clone_into(&mut self.text);
        let (table, errors) = DeTable::parse_recoverable(text);
        let first = self.problems.len();
        let mut at = Vec::new();
        for error in errors {
            let line = line_at(text.as_bytes(), error.span().map_or(0, |span| span.start));
            if at.contains(&line) {
                continue;
            }
            at.push(line);
            let problem = match twice(text, &table, &error) {
                Some((key, first)) => {
                    let first = line_at(text.as_bytes(), first);
                    Problem::Twice { file: file.to_owned(), key, first, line }
                }
                None => {
                    let message = error.message().trim_end_matches('.').replace('\n', ", ");
                    Problem::Syntax { file: file.to_owned(), line, message }
                }
            };
            self.problems.push(problem);
        }
        let unreadable = at.clone();
        for (key, value) in table.into_inner() {
            let line = line_at(text.as_bytes(), key.span().start);
            let last = line_at(text.as_bytes(), value.span().end);
            // A line with a syntax error says nothing about its values.
            if unreadable.iter().any(|at| (line..=last).contains(at)) {
                continue;
            }
            let location =
                Location::Line { file: file.to_owned(), line, key: key.get_ref().to_string() };
            let problems = self.problems.len();
            self.put(key.get_ref(), Value::from_toml(value.get_ref()), location);
            at.resize(at.len() + self.problems.len() - problems, line);
        }
        // The parser sorts by key.
        let mut by_line: Vec<_> = at.into_iter().zip(self.problems.drain(first..)).collect();
        by_line.sort_by_key(|(line, _)| *line);
        self.problems.extend(by_line.into_iter().map(|(_, problem)| problem));
    }

    fn read_environment(&mut self, environment: Vec<(String, OsString)>) {
        for (name, value) in environment {
            // Sorted: of the two, and of what begins with our prefix, the later one counts.
            if name == PASSWORD_VARIABLE {
                if !value.is_empty() {
                    self.settings.password = Password::clear(value.to_string_lossy());
                }
                continue;
            }
            if name == HASH_VARIABLE {
                if !value.is_empty() {
                    let value = Value::Secret(value.to_string_lossy().into_owned());
                    self.put("password_hash", value, Location::Variable(name));
                }
                continue;
            }
            let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
                self.warnings.extend(warning_about(&name));
                continue;
            };
            if value.is_empty() && !key.takes_nothing() {
                continue;
            }
            let value = value.into_string().map_or(Value::Other("not UTF-8"), Value::Text);
            self.put(key.name, value, Location::Variable(name));
        }
    }

    /// Checks that the settings of an S3 store are complete and go together.
    fn check_s3(&mut self) {
        let is_wrong = |problem: &Problem| problem.key().is_some_and(|key| key.starts_with("s3_"));
        // In a file with a syntax error, some may be missing for that reason.
        if self.problems.iter().any(|problem| is_wrong(problem) || problem.key().is_none()) {
            return;
        }
        let mut set = self.set.iter().filter(|(key, _)| key.starts_with("s3_"));
        let Some((&key, (_, location))) = set.next() else { return };
        let missing: Vec<_> =
            S3_KEYS.into_iter().filter(|key| !self.set.contains_key(key)).collect();
        let (key, location, problem) = if missing.is_empty() {
            let checked = Blobs::check_settings(&self.settings.blobs(PathBuf::new()));
            let Err(error) = checked else { return };
            let setting = match &error {
                BlobError::Settings { setting, .. } => format!("s3_{setting}"),
                _ => String::new(),
            };
            // What was not set is not wrong.
            let wrong = self.set.get_key_value(&*setting);
            let (&key, (_, location)) = wrong.unwrap_or((&S3_KEYS[0], &self.set[S3_KEYS[0]]));
            (key, location, error.to_string())
        } else {
            let missing = missing.join(", ");
            (key, location, format!("an S3 store also needs {missing}; set all of them or none"))
        };
        self.problems.push(Problem::Together { key, location: location.clone(), problem });
    }

    fn put(&mut self, name: &str, value: Value, location: Location) {
        let Some(key) = Key::named(name) else {
            let problem = if value == Value::Other("a table") {
                let advice = "write its settings without a section".to_owned();
                Problem::BadValue { key: None, location, value: Value::Other("a section"), advice }
            } else {
                Problem::UnknownKey {
                    location,
                    nearest: nearest(name, KEYS.iter().map(|key| key.name)),
                }
            };
            self.problems.push(problem);
            return;
        };
        let value = match value {
            Value::Text(text) if key.is_secret() => Value::Secret(text),
            Value::Number(_) if key.is_secret() => Value::Other("a number"),
            value => value,
        };
        match key.take(&mut self.settings, &value, &location) {
            Ok(()) => drop(self.set.insert(key.name, (value, location))),
            Err(advice) => {
                self.problems.push(Problem::BadValue {
                    key: Some(key.name),
                    location,
                    value,
                    advice,
                });
            }
        }
    }
}

/// The settings of an S3 store that have no default.
const S3_KEYS: [&str; 4] = ["s3_endpoint", "s3_bucket", "s3_access_key", "s3_secret_key"];

/// The key that an error reports as duplicate, and where it first starts. `None` for any other error, and if
/// there are sections, which have their own keys.
fn twice(
    text: &str,
    table: &Spanned<DeTable<'_>>,
    error: &toml::de::Error,
) -> Option<(String, usize)> {
    let at = error.span().filter(|_| error.message() == "duplicate key")?;
    let key = text.get(at)?.trim_matches(['"', '\'']);
    let table = table.get_ref();
    if table.iter().any(|(_, value)| value.get_ref().is_table()) {
        return None;
    }
    let (first, _) = table.get_key_value(key)?;
    Some((key.to_owned(), first.span().start))
}

/// Refuses a file that another account may have put there against the owner's will.
fn refuse_foreign(file: &Path, opened: &File) -> io::Result<()> {
    match atomic_file::foreign_owner(file, &opened.metadata()?)? {
        None => Ok(()),
        Some(owner) => Err(io::Error::new(io::ErrorKind::InvalidInput, owner.to_string())),
    }
}

/// An error of the operating system, worded to fit into a sentence.
pub(crate) fn in_words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a folder".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// A variable similar to one of ours is a typo; others are somebody else's business.
fn warning_about(name: &str) -> Option<String> {
    const OTHERS: [&str; 4] = [FILE_VARIABLE, HOME_VARIABLE, LAUNCHER_VARIABLE, GENERATED_VARIABLE];
    let known: Vec<String> =
        KEYS.iter().map(Key::variable).chain(OTHERS.map(str::to_owned)).collect();
    if known.iter().any(|known| known == name) {
        return None;
    }
    let nearest = nearest(name, known.iter().map(String::as_str))?;
    Some(format!("The unknown variable `{name}` has no effect; did you mean `{nearest}`?"))
}

/// The known name that is most similar to an unknown one, if any is similar.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    known
        .map(|known| (strsim::damerau_levenshtein(&name, &known.to_lowercase()), known))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, known)| *distance <= known.len() / 3)
        .map(|(_, known)| known)
}

/// The line that contains a byte, starting at 1.
fn line_at(text: &[u8], at: usize) -> usize {
    text[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn gathered(
        file: &str,
        environment: &[(&str, &str)],
        flags: &[(&'static str, &'static str, &str)],
    ) -> Configuration {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(SETTINGS.within(folder.path()), file).unwrap();
        let keys = flags.iter().map(|(flag, key, value)| (*flag, *key, (*value).to_owned()));
        let command_line = CommandLine { config: None, keys: keys.collect() };
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.into()));
        gather(&command_line, environment.collect(), Some(folder.path()))
    }

    fn sentences(configuration: &Configuration) -> Vec<String> {
        configuration.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn flags_beat_the_environment_which_beats_the_file_which_beats_the_default() {
        let file = "listen = \"127.0.0.1:1\"";
        let variable = [("TOOLSHED_LISTEN", "127.0.0.1:2")];
        let flag = [("--listen", "listen", "127.0.0.1:3")];
        for (file, environment, flags, expected) in [
            ("", &[][..], &[][..], None),
            (file, &[], &[], Some("tcp:127.0.0.1:1")),
            (file, &variable, &[], Some("tcp:127.0.0.1:2")),
            (file, &variable, &flag, Some("tcp:127.0.0.1:3")),
            ("", &variable, &flag, Some("tcp:127.0.0.1:3")),
            ("", &[("TOOLSHED_LISTEN", "")], &[], None),
        ] {
            let found = gathered(file, environment, flags);
            assert_eq!(sentences(&found), [""; 0]);
            assert_eq!(found.settings.listen.map(|at| at.to_string()).as_deref(), expected);
        }
    }

    /// Nobody has named it: in a folder where others can create files, anybody may have put it there.
    #[test]
    fn a_default_file_of_another_account_is_a_problem_and_is_not_read() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = SETTINGS.within(folder.path());
        std::fs::write(&file, "public = [\"all\"]").unwrap();
        let open_to_all = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
        std::fs::set_permissions(folder.path(), open_to_all).unwrap();
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
        let gathered_as =
            |command_line: &CommandLine| gather(command_line, Vec::new(), Some(folder.path()));
        let found = gathered_as(&CommandLine::default());
        assert!(found.settings.public.is_empty());
        assert!(sentences(&found)[0].contains("another account (uid 4242)"), "{found:?}");
        let named = CommandLine { config: Some(file.clone()), ..CommandLine::default() };
        assert_eq!(sentences(&gathered_as(&named)), [""; 0], "it is named on the command line");
        std::os::unix::fs::chown(folder.path(), Some(4242), None).unwrap();
        let found = gathered_as(&CommandLine::default());
        assert_eq!(sentences(&found), [""; 0], "the folder's owner uploaded it");
        assert!(!found.settings.public.is_empty());
    }

    #[test]
    fn each_spelling_of_a_value_means_the_same() {
        for text in [
            "idle_timeout = 90",
            "idle_timeout = \"90\"",
            "idle_timeout = \"90 s\"",
            "idle_timeout='90s'",
        ] {
            let found = gathered(text, &[], &[]);
            assert_eq!(found.settings.server.idle_timeout, Duration::from_secs(90), "{text}");
        }
        for text in ["public = [\"all\", \"checksum\"]", "public = \"all, checksum\""] {
            let public = gathered(text, &[], &[]).settings.public;
            assert_eq!(public.into_iter().collect::<Vec<_>>(), ["all", "checksum"], "{text}");
        }
        assert!(gathered("public = []", &[], &[]).settings.public.is_empty());
        assert!(gathered("", &[("TOOLSHED_PUBLIC", "")], &[]).settings.public.is_empty());
    }

    #[test]
    fn a_duplicate_key_is_reported_with_both_lines() {
        let file =
            "hsts = 1\n\nlog = \"a\"\n'hsts' = 2\n\"log\" = \"\"\"\nb\"\"\"\n# x\nlog = \"c\"\n";
        insta::assert_snapshot!(sentences(&gathered(file, &[], &[])).join("\n"), @r"
        toolshed.toml, line 4: hsts is already set in line 1; delete one of the two lines.
        toolshed.toml, line 5: log is already set in line 3; delete one of the two lines.
        toolshed.toml, line 8: log is already set in line 3; delete one of the two lines.
        ");
    }

    #[test]
    fn the_settings_of_an_s3_store_are_complete_or_none() {
        let all = "s3_endpoint = \"https://s3.example\"\ns3_bucket = \"site\"\n\
                   s3_access_key = \"A\"\ns3_secret_key = \"hush\"\n";
        let found = gathered(all, &[], &[]);
        assert_eq!(sentences(&found), [""; 0]);
        assert!(!format!("{:?}", found.settings).contains("hush"));
        let wrong = [
            gathered("s3_bucket = \"site\"\ns3_secret_key = \"hush\"", &[], &[]),
            gathered("", &[("TOOLSHED_S3_REGION", "eu")], &[]),
            gathered(&all.replace("https:", "ftp:"), &[], &[]),
            gathered(&all.replace("example", "example/site"), &[], &[]),
            gathered(all, &[("TOOLSHED_S3_PREFIX", "a/b")], &[]),
            gathered(&all.replace("\"site\"", "\"a/b\""), &[], &[]),
            gathered(&all.replace("\"hush\"", "5"), &[], &[]),
        ];
        let wrong: Vec<_> = wrong.iter().flat_map(sentences).collect();
        insta::assert_snapshot!(wrong.join("\n"), @r#"
        toolshed.toml, line 1: s3_bucket: an S3 store also needs s3_endpoint, s3_access_key; set all of them or none.
        TOOLSHED_S3_REGION: an S3 store also needs s3_endpoint, s3_bucket, s3_access_key, s3_secret_key; set all of them or none.
        toolshed.toml, line 1: s3_endpoint: the S3 store cannot be used: the endpoint is neither http nor https.
        toolshed.toml, line 1: s3_endpoint: the S3 store cannot be used: the endpoint has more than scheme, host and port; write https://HOST.
        TOOLSHED_S3_PREFIX: the S3 store cannot be used: the prefix "a/b" has no / at its end.
        toolshed.toml, line 2: s3_bucket: the S3 store cannot be used: "a/b" is not the name of a bucket.
        toolshed.toml, line 4: s3_secret_key is a number; write the secret key that the store has issued.
        "#);
    }

    #[test]
    fn how_an_s3_store_is_reached_follows_from_its_endpoint() {
        for (endpoint, bucket, style, has_addresses) in [
            ("https://s3.eu-central-1.amazonaws.com", "site", AddressStyle::VirtualHost, true),
            ("https://s3.eu-central-1.amazonaws.com", "my.site", AddressStyle::Path, true),
            ("https://fsn1.objects.example/", "site", AddressStyle::Path, true),
            ("http://10.0.0.1:3900", "site", AddressStyle::Path, false),
        ] {
            let variables = [("TOOLSHED_S3_ENDPOINT", endpoint), ("TOOLSHED_S3_BUCKET", bucket)];
            let mut settings = gathered("", &variables, &[]).settings;
            let BlobSettings::S3(s3) = settings.blobs("/data/blobs".into()) else { panic!() };
            assert_eq!((s3.style, s3.has_addresses), (style, has_addresses), "{endpoint}");
            settings.s3_style = Some(AddressStyle::Path);
            settings.s3_redirect = Some(!has_addresses);
            let BlobSettings::S3(s3) = settings.blobs("/data/blobs".into()) else { panic!() };
            assert_eq!((s3.style, s3.has_addresses), (AddressStyle::Path, !has_addresses));
        }
        let folder = Settings::default().blobs("/data/blobs".into());
        assert_eq!(folder, BlobSettings::Folder("/data/blobs".into()));
    }

    #[test]
    fn relative_paths_in_a_file_are_relative_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("other.toml");
        std::fs::write(&file, "log = \"my.log\"\nlisten = \"unix:s\"").unwrap();
        let command_line = CommandLine { config: Some(file), ..CommandLine::default() };
        let settings = gather(&command_line, vec![], None).settings;
        assert_eq!(settings.log, Some(folder.path().join("my.log")));
        assert_eq!(settings.listen, Some(Address::Unix(folder.path().join("s"))));
        let settings = gathered("", &[("TOOLSHED_LOG", "my.log")], &[]).settings;
        assert_eq!(settings.log, Some("my.log".into()));
    }

    #[test]
    fn all_mistakes_are_reported_in_the_order_of_the_file() {
        let file = "# a comment
send_timeout = \"5 parsecs\"
idel_timeout = 5
public = 7
= 3
max_connections = 0
drain_timeout = 2 min
[server]
log = 1
";
        let found =
            gathered(file, &[("TOOLSHED_BASE", "project")], &[("--listen", "listen", "8080")]);
        insta::assert_snapshot!(sentences(&found).join("\n"), @r#"
        toolshed.toml, line 2: send_timeout is "5 parsecs"; write a time such as "5 min" or "90 s".
        toolshed.toml, line 3: unknown setting `idel_timeout`; did you mean `idle_timeout`?
        toolshed.toml, line 4: public is 7; write names of tools such as ["all"] or ["checksum"].
        toolshed.toml, line 5: invalid TOML (unquoted keys cannot be empty, expected letters, numbers, `-`, `_`); write KEY = VALUE, with strings in double quotes.
        toolshed.toml, line 6: max_connections is 0; write a whole number from 1 to 65,536.
        toolshed.toml, line 7: invalid TOML (string values must be quoted, expected literal string); write KEY = VALUE, with strings in double quotes.
        toolshed.toml, line 8: server is a section; write its settings without a section.
        TOOLSHED_BASE is "project"; write a path such as "/project".
        --listen is "8080"; write an address such as "127.0.0.1:8080" or "unix:/run/toolshed.sock".
        "#);
    }

    /// Files are cut off by uploads and typed by people.
    #[test]
    fn every_mistake_in_a_file_is_one_sentence() {
        const FILE: &str =
            "# ä\npublic = [\"all\", 'inspect']\nlog = \"\"\"a\nb\"\"\"\r\nbody_bytes=0x2000";
        let check = |text: &str| {
            let mut configuration = Configuration::default();
            configuration.read_text(text, Path::new(SETTINGS.name));
            for sentence in sentences(&configuration) {
                assert!(sentence.starts_with("toolshed.toml, line "), "{text:?}: {sentence}");
                assert!(
                    sentence.ends_with(['.', '?']) && !sentence.contains('\n'),
                    "{text:?}: {sentence}"
                );
            }
        };
        for (at, letter) in FILE.char_indices() {
            check(&FILE[..at]);
            for typo in ["", "\"", "'", "[", "]", "=", ",", "\n", "\r", "\0", "ß", "{", "}", "."] {
                check(&format!("{}{typo}{}", &FILE[..at], &FILE[at + letter.len_utf8()..]));
                check(&format!("{}{typo}{}", &FILE[..at], &FILE[at..]));
            }
        }
    }
}
