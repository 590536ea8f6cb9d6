//! What `check` finds out about the login. It changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use hosted::config::{Configuration, Location};
use hosted::findings::{Findings, mode};
use hosted::installation::RULES;
use hosted::store::{self, Keeps, is_lasting};
use rustix::fs::{Access, access};
use site::login::KeyError;

use crate::entries::KEY;
use crate::settings::{HasOwner, PASSWORD_HASH, login, password_variable};

/// Adds whether anybody can log in: password, store, secret key. `site`: the folder with the launcher in it; `consequence`: what does
/// not work while the store cannot be used, as a sentence.
pub fn look<A: Keeps<Own: HasOwner>>(
    app: &A,
    findings: &mut Findings,
    configuration: &Configuration<A::Own>,
    site: Option<&Path>,
    consequence: &str,
) {
    password(findings, configuration, site);
    store::look(app, findings, configuration, consequence);
    secret_key(findings, configuration);
}

/// Where the password is set: the first source that takes effect (docs/login.md).
fn password<O: HasOwner>(
    findings: &mut Findings,
    configuration: &Configuration<O>,
    site: Option<&Path>,
) {
    const SUBJECT: &str = "Login";
    let variable = password_variable(configuration);
    if let (Some((_, Location::Line { file, .. })), Some(name)) =
        (configuration.set.get(PASSWORD_HASH), variable)
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
    if let Some((_, Location::Line { file, .. })) = configuration.set.get(PASSWORD_HASH) {
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
    if configuration.settings.own.owner().password.is_some() {
        return findings.ok(SUBJECT, "the password is in the environment");
    }
    let rules = site.map(|site| RULES.within(site));
    if let Some(rules) = rules.filter(|rules| sets_password(rules)) {
        return findings.ok(SUBJECT, format!("the password is in {}", rules.display()));
    }
    let login = login(configuration.program, &configuration.settings);
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
                format!("Set one with {} set-password; docs/login.md lists all ways.", configuration.program.name),
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

/// Whether this machine has the secret key of the others.
fn secret_key<O: HasOwner>(findings: &mut Findings, configuration: &Configuration<O>) {
    const SUBJECT: &str = "Secret key";
    let login = login(configuration.program, &configuration.settings);
    let file = KEY.within(&login.data);
    if file.exists() && access(&file, Access::READ_OK).is_err() {
        return findings.wrong(
            SUBJECT,
            format!("{} cannot be used by this account", file.display()),
            "Give it to the site's account (chown) and set its mode to 600.",
        );
    }
    match login.look_at_key() {
        // What is wrong with the store has been found already.
        Ok(()) | Err(KeyError::Store(_)) => {}
        Err(error) => {
            findings.wrong(SUBJECT, error.to_string(), "Until then nobody can log in here.");
        }
    }
}
