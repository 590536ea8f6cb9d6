//! `toolshed check [FOLDER]`: what is installed and what would fail, without changing anything.
//!
//! One line per finding: `ok`, `note` (may be intended) or `wrong`, with a hint below what is not ok. It opens nothing
//! for writing and binds no socket except a TCP port for a moment; where blobs are kept, it keeps one of a few bytes for a
//! moment.

use std::fs::{self, Metadata};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use app_server::Address;
use atomic_file::{FileIdentity, folder_of, is_foreign};
use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use site::blobs::{BlobError, BlobSettings, Blobs, Key, PutOptions};
use site::login::KeyError;
use site::storage::StoreError;

use super::{serve, store::schemas};
use crate::application;
use crate::config::{self, CommandLine, Configuration, Location};
use crate::installation::{
    HOME_VARIABLE, KEY, LAUNCHER, RULES, SETTINGS, STATIC, STORE, default_log, find_site_folder,
    launched_programs,
};
use crate::report::{self, Failure};

/// The launcher of this version, to compare with what is installed.
const LAUNCHER_TEXT: &str = include_str!("../../../../dispatch.fcgi");

/// The rewrite rules of this version.
const RULES_TEXT: &str = include_str!("../../../../htaccess");

/// Prints what was found.
///
/// # Errors
///
/// Exit code 2 if the settings are wrong, 1 if something else would not work.
pub(crate) fn run(command_line: &CommandLine, folder: Option<&Path>) -> Result<(), Failure> {
    let configuration = config::load(command_line);
    let mut findings = Findings::default();
    program(&mut findings);
    configured(&mut findings, &configuration);
    if let Some(node) = configuration.settings.node() {
        findings.ok("Node", node);
    }
    log_file(&mut findings, &configuration);
    let site = folder.map(Path::to_owned).or_else(find_site_folder);
    password(&mut findings, &configuration, site.as_deref());
    data_folder(&mut findings, &configuration);
    store(&mut findings, &configuration);
    secret_key(&mut findings, &configuration);
    blobs(&mut findings, &configuration);
    unfinished_copies(&mut findings, &configuration);
    listening(&mut findings, &configuration, site.is_some());
    match &site {
        Some(folder) => site_folder(&mut findings, folder),
        None => findings.note(
            "Launcher",
            "no dispatch.fcgi found; it is needed only if a web server starts the program",
            "Name the site's folder: toolshed check FOLDER",
        ),
    }
    report::print(&findings.text)?;
    if !configuration.problems.is_empty() {
        return Err(Failure::configuration(&configuration));
    }
    match findings.wrong {
        0 => Ok(()),
        1 => Err(Failure::refused("1 problem found.")),
        count => Err(Failure::refused(format!("{count} problems found."))),
    }
}

/// What was found so far.
#[derive(Default)]
struct Findings {
    text: String,
    wrong: usize,
}

impl Findings {
    fn ok(&mut self, subject: &str, what: impl AsRef<str>) {
        self.line("ok", subject, what.as_ref());
    }

    fn note(&mut self, subject: &str, what: impl AsRef<str>, hint: impl AsRef<str>) {
        self.line("note", subject, what.as_ref());
        self.hint(hint.as_ref());
    }

    fn wrong(&mut self, subject: &str, what: impl AsRef<str>, hint: impl AsRef<str>) {
        self.wrong += 1;
        self.line("wrong", subject, what.as_ref());
        self.hint(hint.as_ref());
    }

    fn line(&mut self, verdict: &str, subject: &str, what: &str) {
        self.text += &format!("{verdict:5}  {subject:13}  {what}.\n");
    }

    fn hint(&mut self, hint: &str) {
        self.text += &format!("{:22}Hint: {hint}\n", "");
    }
}

fn program(findings: &mut Findings) {
    const VERSION: &str = concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"));
    let Ok(program) = std::env::current_exe() else {
        findings.note("Program", VERSION, "Its own path cannot be found; is /proc mounted?");
        return;
    };
    let Ok(metadata) = fs::metadata(&program) else {
        findings.note(
            "Program",
            format!("{VERSION}, {} no longer exists", program.display()),
            "It was replaced or removed while running; the web server starts the new one.",
        );
        return;
    };
    if may_be_changed_by_others(&metadata) {
        let (path, mode) = (program.display(), mode(&metadata));
        findings.wrong(
            "Program",
            format!("{VERSION}, {path}, is writable by others (mode {mode})"),
            format!("chmod 755 {path}"),
        );
    } else {
        findings.ok("Program", format!("{VERSION}, {}", program.display()));
    }
}

fn configured(findings: &mut Findings, configuration: &Configuration) {
    let set = match configuration.set.len() {
        0 => "defaults only".to_owned(),
        1 => "1 setting".to_owned(),
        count => format!("{count} settings"),
    };
    match (&configuration.file, configuration.problems.len()) {
        (Some(file), 0) => findings.ok("Configuration", format!("{}, {set}", file.display())),
        (None, 0) => findings.ok("Configuration", format!("no {}, {set}", SETTINGS.name)),
        (_, 1) => findings.wrong("Configuration", "one setting is wrong", "See below."),
        (_, count) => {
            findings.wrong("Configuration", format!("{count} settings are wrong"), "See below.");
        }
    }
    for warning in &configuration.warnings {
        findings.note(
            "Configuration",
            warning.trim_end_matches('.'),
            "`toolshed settings` lists all settings.",
        );
    }
}

fn log_file(findings: &mut Findings, configuration: &Configuration) {
    let Some(file) = configuration.settings.log.clone().or_else(default_log) else {
        findings.note("Log", "standard error: there is no place for a file", "Set log.");
        return;
    };
    let shown = file.display();
    match fs::metadata(&file) {
        Ok(metadata) if !metadata.is_file() && !metadata.file_type().is_char_device() => {
            findings.wrong("Log", format!("{shown} is not a file"), "Set log to another file.");
        }
        Ok(_) if access(&file, Access::WRITE_OK).is_err() => findings.wrong(
            "Log",
            format!("{shown} cannot be written by this account"),
            format!("chmod 600 {shown}, or set log to another file."),
        ),
        Ok(_) => findings.ok("Log", format!("{shown}")),
        Err(_) => {
            let folder = nearest_existing_folder(&file);
            if folder.is_dir() && access(&folder, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
                findings.ok("Log", format!("{shown}, not yet created"));
            } else {
                findings.wrong(
                    "Log",
                    format!("{shown} cannot be created: {} is not writable", folder.display()),
                    "Set log to a file in a folder of yours.",
                );
            }
        }
    }
}

/// Where the password is set: the first source that takes effect (docs/login.md).
fn password(findings: &mut Findings, configuration: &Configuration, site: Option<&Path>) {
    const SUBJECT: &str = "Login";
    let variable = config::password_variable(configuration);
    if let (Some((_, Location::Line { file, .. })), Some(name)) =
        (configuration.set.get("password_hash"), variable)
    {
        return findings.note(
            SUBJECT,
            format!(
                "the password is in the environment; the one in {} is not used",
                file.display()
            ),
            format!("Remove {name} from the environment to use the password in the file."),
        );
    }
    if let Some((_, Location::Line { file, .. })) = configuration.set.get("password_hash") {
        let shown = file.display();
        return match fs::metadata(file) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => findings.note(
                SUBJECT,
                format!(
                    "the password's hash in {shown} can be read by others (mode {})",
                    mode(&metadata)
                ),
                format!("chmod 600 {shown}"),
            ),
            _ => findings.ok(SUBJECT, format!("the password is in {shown}")),
        };
    }
    if configuration.settings.password.is_some() {
        return findings.ok(SUBJECT, "the password is in the environment");
    }
    let rules = site.map(|site| RULES.within(site));
    if let Some(rules) = rules.filter(|rules| sets_password(rules)) {
        return findings.ok(SUBJECT, format!("the password is in {}", rules.display()));
    }
    let login = application::login(&configuration.settings);
    match login.look_for_set_up() {
        Ok(true) => {
            let store = login.store();
            let shown = store.file().map_or(Path::new("the store"), |file| file).display();
            findings.ok(SUBJECT, format!("the password set on the set-up page is in {shown}"));
        }
        Ok(false) => match login.set_up_file.filter(|file| file.exists()) {
            Some(file) => findings.note(
                SUBJECT,
                format!("no password is set yet; {} opens the set-up page", file.display()),
                "Open the site and choose Log in, Set up the site.",
            ),
            None => findings.note(
                SUBJECT,
                "no password is set, so nobody can log in",
                "Set one with toolshed set-password; docs/login.md lists all ways.",
            ),
        },
        Err(_) if configuration.settings.database.is_some() => findings.note(
            SUBJECT,
            "cannot tell whether the set-up page has set a password, because there is no database",
            "See Database below.",
        ),
        Err(error) if is_lasting(&error) => findings.note(
            SUBJECT,
            "cannot tell whether the set-up page has set a password, because the store cannot be used",
            "See Store below.",
        ),
        Err(error) => findings.note(
            SUBJECT,
            format!("cannot tell whether the set-up page has set a password: {error}"),
            "Open the site, which repairs what a killed process left behind, then check again.",
        ),
    }
}

/// Whether an .htaccess sets the password: `SetEnv APP_PASSWORD …`, `SetEnv APP_PASSWORD_HASH …`.
fn sets_password(rules: &Path) -> bool {
    let Ok(text) = fs::read(rules) else { return false };
    String::from_utf8_lossy(&text).lines().any(|line| {
        let mut words = line.split_whitespace();
        let is_directive = words.next().is_some_and(|word| word.eq_ignore_ascii_case("SetEnv"));
        let name = words.next().map(|name| name.trim_matches('"'));
        let has_value = words.next().is_some_and(|value| value != "\"\"");
        is_directive && matches!(name, Some("APP_PASSWORD" | "APP_PASSWORD_HASH")) && has_value
    })
}

/// The site's data: sessions, and which tools have crashed.
fn data_folder(findings: &mut Findings, configuration: &Configuration) {
    const SUBJECT: &str = "Data";
    let folder = application::login(&configuration.settings).data;
    let shown = folder.display();
    let is_writable = |folder: &Path| access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    match fs::metadata(&folder) {
        Ok(metadata) if !metadata.is_dir() => findings.wrong(
            SUBJECT,
            format!("{shown} is not a folder, so nobody can log in"),
            "Set data to a folder.",
        ),
        Ok(_) if !is_writable(&folder) => findings.wrong(
            SUBJECT,
            format!("{shown} cannot be written by this account, so nobody can log in"),
            format!("chmod 700 {shown}, or set data to another folder."),
        ),
        // Root checks on behalf of the account that the site runs as.
        Ok(metadata) if is_foreign(&metadata) && geteuid().is_root() => findings.note(
            SUBJECT,
            format!("{shown} belongs to another account (uid {})", metadata.uid()),
            "Fine if the site runs as that account; if it runs as root, nobody can log in.",
        ),
        Ok(metadata) if is_foreign(&metadata) => findings.wrong(
            SUBJECT,
            format!(
                "{shown} belongs to another account (uid {}), so nobody can log in",
                metadata.uid()
            ),
            "Run the site as that account, or set data to a folder of yours.",
        ),
        Ok(metadata) if may_be_changed_by_others(&metadata) => findings.wrong(
            SUBJECT,
            format!("{shown} is writable by others (mode {})", mode(&metadata)),
            format!("chmod 700 {shown}"),
        ),
        Ok(metadata) => match unusable_file_in(&folder) {
            Some(file) => {
                let file = file.display();
                findings.wrong(
                    SUBJECT,
                    format!("{file} cannot be used by this account, so nobody can log in"),
                    "Give it to the site's account (chown) and set its mode to 600.",
                );
            }
            None if metadata.mode() & 0o077 != 0 => findings.note(
                SUBJECT,
                format!("{shown} can be listed by others (mode {})", mode(&metadata)),
                format!("chmod 700 {shown}"),
            ),
            None => findings.ok(SUBJECT, format!("{shown}")),
        },
        Err(_) if is_writable(&nearest_existing_folder(&folder)) => {
            findings.ok(SUBJECT, format!("{shown}, not yet created"));
        }
        Err(_) => findings.wrong(
            SUBJECT,
            format!("{shown} cannot be created, so nobody can log in"),
            "Set data to a folder of yours.",
        ),
    }
}

/// The store: whether the site could use it. A file that is used by others at the moment says nothing.
fn store(findings: &mut Findings, configuration: &Configuration) {
    let store = application::login(&configuration.settings).store();
    let subject = if store.file().is_some() { "Store" } else { "Database" };
    match store.find_obstacle(&schemas(&store)) {
        Ok(()) if store.file().is_none() => {
            findings.ok(subject, "PostgreSQL responds, and the site may use it");
        }
        Ok(()) => {}
        // What is wrong with the file itself is said under Data, and what a killed process has left under Login.
        Err(error) if store.file().is_some() && !is_lasting(&error) => {}
        Err(error) => findings.wrong(
            subject,
            error.to_string(),
            "Until then nobody can log in, and tools that store something do not work.",
        ),
    }
}

/// Whether an error concerns what is in a file, and stays until the owner does something.
fn is_lasting(error: &StoreError) -> bool {
    use StoreError::{Altered, Damaged, ForeignTable, Moved, Newer, Unfinished};
    matches!(error, Damaged(_) | Newer { .. } | Altered { .. } | Moved | Unfinished | ForeignTable)
}

/// Whether this machine has the secret key of the others.
fn secret_key(findings: &mut Findings, configuration: &Configuration) {
    const SUBJECT: &str = "Secret key";
    match application::login(&configuration.settings).look_at_key() {
        // What is wrong with the store has been found already.
        Ok(()) | Err(KeyError::Store(_)) => {}
        Err(error) => {
            findings.wrong(SUBJECT, error.to_string(), "Until then nobody can log in here.");
        }
    }
}

/// Whether tools can keep blobs: whether the folder or the S3 store keeps a few bytes for a moment.
fn blobs(findings: &mut Findings, configuration: &Configuration) {
    const SUBJECT: &str = "Blobs";
    let settings = application::blobs(&configuration.settings);
    let good = match &settings {
        BlobSettings::Folder(folder) => match folder_of_blobs(findings, SUBJECT, folder) {
            Some(shown) => shown,
            None => return,
        },
        // Wrong settings are reported already.
        _ if !configuration.problems.is_empty() => return,
        _ => "the S3 store keeps what it is given".to_owned(),
    };
    let hint = "Until then tools that keep files do not work.";
    match event_loop::run(probe(&Blobs::new(settings))) {
        Ok(Ok(true)) => findings.ok(SUBJECT, good),
        Ok(Ok(false)) => findings.wrong(SUBJECT, "what is read is not what was written", hint),
        Ok(Err(error @ BlobError::Unreachable { .. })) => findings.wrong(
            SUBJECT,
            error.to_string(),
            "Check s3_endpoint, and whether this machine may connect to it: some hosts forbid that.",
        ),
        Ok(Err(error)) => findings.wrong(SUBJECT, error.to_string(), hint),
        Err(error) => findings.wrong(SUBJECT, format!("cannot be checked: {error}"), "Try again."),
    }
}

/// Returns how the folder is shown, unless a look at it says enough, or opening it would change it.
fn folder_of_blobs(findings: &mut Findings, subject: &str, folder: &Path) -> Option<String> {
    let shown = folder.display();
    match fs::metadata(folder) {
        Ok(found) if !found.is_dir() => findings.wrong(
            subject,
            format!("{shown} is not a folder, so tools cannot keep files"),
            "Remove it.",
        ),
        // As for Data.
        Ok(found) if is_foreign(&found) && geteuid().is_root() => findings.note(
            subject,
            format!("{shown} belongs to another account (uid {})", found.uid()),
            "Fine if the site runs as that account; check as that one whether it can be written.",
        ),
        Ok(found) if may_be_changed_by_others(&found) => findings.wrong(
            subject,
            format!("{shown} is writable by others (mode {})", mode(&found)),
            format!("chmod 700 {shown}"),
        ),
        Ok(_) => return Some(shown.to_string()),
        // Whether it can be created is said under Data.
        Err(_) => findings.ok(subject, format!("{shown}, not yet created")),
    }
    None
}

/// Puts a blob, finds it in a list, reads it and deletes it. Returns whether it came back as it was. Its key is random:
/// another check may run at the same time.
async fn probe(blobs: &Blobs) -> Result<bool, BlobError> {
    let blobs = blobs.with_prefix(&"toolshed-check".parse().expect("letters are a key"));
    let text = site::storage::new_id().unwrap_or_else(|_| "probe".to_owned());
    let key: Key = text.parse().expect("letters and digits are a key");
    blobs.put(&key, Body::from(text.clone()), PutOptions::default()).await?;
    let found = read_back(&blobs, &key).await;
    blobs.delete(&key).await?;
    Ok(found? == Some(text.into()) && blobs.head(&key).await?.is_none())
}

/// Returns what a blob contains, if it is in a list.
async fn read_back(blobs: &Blobs, key: &Key) -> Result<Option<Bytes>, BlobError> {
    if !blobs.list(key.as_str(), None, 1).await?.iter().any(|listed| listed.key == *key) {
        return Ok(None);
    }
    let Some(blob) = blobs.get(key, ..).await? else { return Ok(None) };
    Ok(Some(blob.body.collect().await?.to_bytes()))
}

/// What killed backups have left behind.
fn unfinished_copies(findings: &mut Findings, configuration: &Configuration) {
    for left in application::login(&configuration.settings).store().unfinished_copies() {
        let kib = left.bytes.div_ceil(1024);
        findings.note(
            "Data",
            format!("{} ({kib} KiB) was left by a killed backup", left.folder.display()),
            "The next toolshed backup removes it.",
        );
    }
}

/// A file of the site that exists but that this account cannot use, for example because another account created it.
fn unusable_file_in(folder: &Path) -> Option<PathBuf> {
    let files = [(STORE, Access::READ_OK | Access::WRITE_OK), (KEY, Access::READ_OK)];
    let is_unusable = |file: &Path, needed| file.exists() && access(file, needed).is_err();
    let files = files.into_iter().map(|(entry, needed)| (entry.within(folder), needed));
    files.into_iter().find(|(file, needed)| is_unusable(file, *needed)).map(|(file, _)| file)
}

/// `is_launched`: a web server starts the program through `dispatch.fcgi` and passes the socket.
fn listening(findings: &mut Findings, configuration: &Configuration, is_launched: bool) {
    let asked_for = configuration.settings.listen.clone();
    if asked_for.is_none() && is_launched {
        findings.ok("Listening", "on the socket of the web server that starts dispatch.fcgi");
        return;
    }
    let is_asked_for = asked_for.is_some();
    let address = asked_for.unwrap_or(Address::Tcp(serve::ADDRESS));
    let shown = address.to_string();
    let shown = shown.trim_start_matches("tcp:");
    let taken = |findings: &mut Findings| {
        findings.note(
            "Listening",
            format!("{shown} is in use by another process"),
            "Fine if that is this site; otherwise stop it or set listen.",
        );
    };
    let refused = match &address {
        Address::Tcp(address) => match TcpListener::bind(address) {
            Ok(_) => None,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return taken(findings),
            Err(error) => Some(config::in_words(&error)),
        },
        Address::Unix(path) => {
            let folder = folder_of(path);
            if UnixStream::connect(path).is_ok() {
                return taken(findings);
            } else if !folder.is_dir() {
                Some(format!("the folder {} does not exist", folder.display()))
            } else if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
                Some(format!("the folder {} is not writable", folder.display()))
            } else if fs::metadata(path).is_ok_and(|metadata| !metadata.file_type().is_socket()) {
                Some("something other than a socket is there".to_owned())
            } else {
                None
            }
        }
    };
    match refused {
        None => findings.ok("Listening", format!("{shown} is free")),
        Some(why) if is_asked_for => findings.wrong(
            "Listening",
            format!("cannot listen on {shown}: {why}"),
            "Choose a port of 1024 or more, or a socket in a folder of yours.",
        ),
        Some(why) => findings.note(
            "Listening",
            format!("cannot listen on {shown}: {why}"),
            "It matters only to `toolshed serve`; set listen if you use that.",
        ),
    }
}

fn site_folder(findings: &mut Findings, folder: &Path) {
    let launcher = LAUNCHER.within(folder);
    match fs::read(&launcher) {
        Err(error) => {
            findings.wrong(
                "Launcher",
                format!("{} cannot be read: {}", launcher.display(), config::in_words(&error)),
                "Upload dispatch.fcgi into the site's folder, or name that folder: toolshed check FOLDER",
            );
            return;
        }
        Ok(text) => launcher_file(findings, &launcher, &text),
    }
    launched_program(findings, folder);
    if let Ok(metadata) = fs::metadata(folder)
        && may_be_changed_by_others(&metadata)
    {
        let (shown, mode) = (folder.display(), mode(&metadata));
        findings.wrong(
            "Folder",
            format!("{shown} is writable by others (mode {mode}), which suexec refuses"),
            format!("chmod 755 {shown}"),
        );
    }
    rewrite_rules(findings, &RULES.within(folder));
    static_files(findings, &STATIC.within(folder));
}

fn launcher_file(findings: &mut Findings, launcher: &Path, text: &[u8]) {
    let shown = launcher.display();
    let Ok(metadata) = fs::metadata(launcher) else { return };
    if text.windows(2).any(|pair| pair == b"\r\n") {
        findings.wrong(
            "Launcher",
            format!("{shown} has Windows line endings and cannot start"),
            "Upload it again in binary mode.",
        );
    } else if metadata.mode() & 0o111 == 0 {
        findings.wrong(
            "Launcher",
            format!("{shown} is not executable (mode {})", mode(&metadata)),
            format!("chmod 755 {shown}"),
        );
    } else if may_be_changed_by_others(&metadata) {
        findings.wrong(
            "Launcher",
            format!(
                "{shown} is writable by others (mode {}), which suexec refuses",
                mode(&metadata)
            ),
            format!("chmod 755 {shown}"),
        );
    } else if metadata.uid() != geteuid().as_raw() {
        findings.note(
            "Launcher",
            format!("{shown} belongs to another account, which suexec refuses"),
            "Upload it with the account that the site runs as.",
        );
    } else if text != LAUNCHER_TEXT.as_bytes() {
        findings.note(
            "Launcher",
            format!("{shown} is not from this version"),
            "Upload the dispatch.fcgi that came with the program, unless you changed it yourself.",
        );
    } else {
        findings.ok("Launcher", format!("{shown}, from this version"));
    }
}

/// Which program the launcher would start; it looks in this order (`dispatch.fcgi`).
fn launched_program(findings: &mut Findings, folder: &Path) {
    let folder = folder.canonicalize().unwrap_or(folder.to_owned());
    let variable =
        |name| std::env::var_os(name).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let places = launched_programs(&folder, variable(HOME_VARIABLE), variable("HOME"));
    let this = std::env::current_exe().ok().as_deref().and_then(FileIdentity::of);
    match places.iter().find(|place| place.is_file()) {
        Some(place) if FileIdentity::of(place) == this => {
            findings.ok("Launcher", format!("it starts this program, {}", place.display()));
        }
        Some(place) => findings.note(
            "Launcher",
            format!("it starts another program, {}", place.display()),
            format!("Ask that one: {} check", place.display()),
        ),
        None => {
            let places: Vec<_> = places.iter().map(|place| place.to_string_lossy()).collect();
            findings.wrong(
                "Launcher",
                format!("it finds no program at {}", places.join(", ")),
                "Put toolshed at one of these places, with mode 755.",
            );
        }
    }
}

fn rewrite_rules(findings: &mut Findings, file: &Path) {
    let shown = file.display();
    let Ok(metadata) = fs::metadata(file) else {
        findings.note(
            "Rewrite rules",
            format!("{shown} is missing, so Apache passes no requests to dispatch.fcgi"),
            "Upload the file htaccess as .htaccess; other web servers need none.",
        );
        return;
    };
    if metadata.mode() & 0o044 == 0 {
        findings.wrong(
            "Rewrite rules",
            format!("{shown} cannot be read by the web server (mode {})", mode(&metadata)),
            format!("chmod 644 {shown}"),
        );
    } else if fs::read(file).is_ok_and(|text| text == RULES_TEXT.as_bytes()) {
        findings.ok("Rewrite rules", format!("{shown}, from this version"));
    } else {
        findings.ok("Rewrite rules", format!("{shown}, changed or from another version"));
    }
}

fn static_files(findings: &mut Findings, folder: &Path) {
    let shown = folder.display();
    if !folder.is_dir() {
        findings.ok("Static files", format!("no {shown}: the program serves them itself"));
        return;
    }
    let all = site::assets::all();
    let (mut other, mut unreadable) = (Vec::new(), Vec::new());
    for asset in all {
        let file = folder.join(asset.path);
        if !fs::read(&file).is_ok_and(|content| content == asset.content) {
            other.push(asset.path);
        } else if fs::metadata(&file).is_ok_and(|metadata| metadata.mode() & 0o044 == 0) {
            unreadable.push(asset.path);
        }
    }
    if !other.is_empty() {
        findings.wrong(
            "Static files",
            format!("{shown} is not from this version: {}", some_of(&other)),
            "Remove that folder (the program has these files in it), or upload the one that came with it.",
        );
    } else if !unreadable.is_empty() {
        findings.wrong(
            "Static files",
            format!("the web server cannot read {} in {shown}", some_of(&unreadable)),
            "Folders need mode 755, files 644.",
        );
    } else {
        findings.ok("Static files", format!("{shown}, {} files, from this version", all.len()));
    }
}

/// The first few names.
fn some_of(names: &[&str]) -> String {
    match names {
        [first, second, third, rest @ ..] if !rest.is_empty() => {
            format!("{first}, {second}, {third} and {} more", rest.len())
        }
        names => names.join(", "),
    }
}

/// Whether its group or everybody may change it: suexec does not run such files.
fn may_be_changed_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o022 != 0
}

/// The mode as chmod takes it: `755`.
fn mode(metadata: &Metadata) -> String {
    format!("{:o}", metadata.mode() & 0o7777)
}

/// The nearest existing folder above a file: missing folders would be created in it.
fn nearest_existing_folder(file: &Path) -> PathBuf {
    let above = file.ancestors().skip(1).map(|folder| match folder.as_os_str().is_empty() {
        true => Path::new("."),
        false => folder,
    });
    above.into_iter().find(|folder| folder.exists()).unwrap_or(Path::new(".")).to_owned()
}
