//! What `check` finds out about the site: login, data, store, blobs, static files.
//!
//! It changes nothing, except that it keeps a blob of a few bytes for a moment.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use atomic_file::is_foreign;
use axum::body::Body;
use bytes::Bytes;
use hosted::config::Location;
use hosted::findings::{Findings, may_be_changed_by_others, mode, nearest_existing_folder};
use hosted::installation::RULES;
use http_body_util::BodyExt;
use rustix::fs::{Access, access};
use rustix::process::geteuid;
use site::LoginSettings;
use site::blobs::{BlobError, BlobSettings, Blobs, Key, PutOptions};
use site::login::KeyError;
use site::storage::StoreError;

use super::store::schemas;
use crate::application;
use crate::config::{self, Configuration};
use crate::installation::{KEY, STATIC, STORE};

/// Adds all of it, except the static files.
pub(crate) fn run(findings: &mut Findings, configuration: &Configuration, site: Option<&Path>) {
    password(findings, configuration, site);
    let problems = findings.problems();
    data_folder(findings, configuration);
    // Otherwise what is wrong with the file has been said.
    if findings.problems() == problems || configuration.settings.own.database.is_some() {
        store(findings, configuration);
    }
    secret_key(findings, configuration);
    blobs(findings, configuration);
    unfinished_copies(findings, configuration);
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
    if configuration.settings.own.password.is_some() {
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
        Err(_) if configuration.settings.own.database.is_some() => findings.note(
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
            unmoved_store(findings, configuration);
        }
        Ok(()) => {}
        // What is left to say is under Login.
        Err(error) if store.file().is_some() && !is_lasting(&error) => {}
        Err(error) => findings.wrong(
            subject,
            error.to_string(),
            "Until then nobody can log in, and tools that store something do not work.",
        ),
    }
}

/// Whether the site has a store in a file from before, which it does not use any more.
fn unmoved_store(findings: &mut Findings, configuration: &Configuration) {
    let login = application::login(&configuration.settings);
    let in_file = LoginSettings { database: None, ..login }.store();
    if in_file.exists() && in_file.find_obstacle(&schemas(&in_file)).is_ok() {
        let shown = in_file.file().map_or(Path::new("the store"), |file| file).display();
        findings.note(
            "Database",
            format!("the site does not use {shown}, in which it has kept things before"),
            "To take them along: remove the setting database, toolshed store move URL, set it again. Otherwise remove that file.",
        );
    }
}

/// Whether an error of a store in a file stays until the owner does something: others may be using it just now, and what a
/// killed process has left, which SQLite can only roll back where it may write, the site repairs.
fn is_lasting(error: &StoreError) -> bool {
    !matches!(error, StoreError::Busy | StoreError::Sql(_))
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

/// Adds whether the static files in the folder of the site are those of this version.
pub(crate) fn static_files(findings: &mut Findings, site: &Path) {
    let folder = &STATIC.within(site);
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
