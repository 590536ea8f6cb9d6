//! The login around an application of somebody's own: behind Apache mod_fcgid, below a folder, at the terminal.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use end_to_end::fixtures::{App, Folder, Running, Setup, apache_fcgid, serve};
use end_to_end::http_client::{Request, Response, Upload};
use end_to_end::program::touch;

use crate::login::Browser;

const PASSWORD: &str = "correct horse battery";

fn setup(base: &'static str) -> Setup {
    Setup::new(App::GuardedApp, base).with_upgrade()
}

/// Runs a command of the application, with this on its standard input.
fn run(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(folder.join("bin/guarded-app"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it is read");
    child.wait_with_output().expect("it ends")
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(both).expect("text")
}

fn sign(running: &Running, name: &str) -> Response {
    let path = format!("{}/", running.base);
    let request = Request::post(path, Upload::Text(name.as_bytes().to_vec()));
    request.header("Content-Type", "text/plain").send(running.address).expect("a response")
}

/// The owner sets a password in a shell, logs in and removes an entry; nobody else can.
fn the_owner_logs_in(running: &Running) {
    let base = running.base;
    let set = run(running.folder(), &["set-password"], PASSWORD);
    assert!(text(&set).starts_with("The password is set in "), "{}", text(&set));
    let settings = running.folder().join("guarded-app.toml");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    // The program runs as another account here.
    fs::set_permissions(&settings, mode).expect("chmod");
    touch(&running.folder().join(format!("www{base}/dispatch.fcgi"))).expect("a touch");

    assert_eq!(sign(running, "ann").status, 303, "{}", running.program_logs());
    assert_eq!(sign(running, "spam").status, 303);
    let mut browser = Browser::new(running);
    assert_eq!(browser.get(&format!("{base}/")).text(), "false guests: ann spam\n");
    let asked = browser.get(&format!("{base}/admin"));
    assert_eq!(asked.status, 303);
    let form = asked.header("location").expect("a location").to_owned();
    assert!(form.starts_with(&format!("{base}/login?next=")), "{form}");
    let page = browser.get(&form).text();
    assert!(page.contains("The guest book") && !page.contains("Toolshed"), "{page}");
    assert_eq!(browser.post(&format!("{base}/admin/spam/remove"), &[]).status, 401);

    let logged_in = browser.log_in(&form, PASSWORD);
    assert_eq!(logged_in.status, 303, "{}", running.program_logs());
    assert_eq!(logged_in.header("location"), Some(&*format!("{base}/admin")));
    assert_eq!(browser.get(&format!("{base}/admin")).text(), "what only the owner sees\n");
    assert_eq!(browser.post(&format!("{base}/admin/spam/remove"), &[]).text(), "removed\n");
    assert_eq!(browser.get(&format!("{base}/")).text(), "true guests: ann\n");
    let account = browser.get(&format!("{base}/account")).text();
    assert!(account.contains("guarded-app set-password") && !account.contains("oolshed"));
    let failed = browser.get(&format!("{base}/admin/fails"));
    let page = failed.text();
    assert!(failed.status == 500 && page.contains("The guest book"), "{page}");
    assert!(page.contains("quote this reference") && !page.contains("secret reason"), "{page}");
    let log = fs::read_to_string(running.folder().join("logs/guarded-app.log")).expect("a log");
    assert!(log.contains("Request failed: the secret reason."), "{log}");
    // The session holds in the process that a touch makes.
    touch(&running.folder().join(format!("www{base}/dispatch.fcgi"))).expect("a touch");
    assert_eq!(browser.get(&format!("{base}/admin")).text(), "what only the owner sees\n");
}

#[test]
fn behind_mod_fcgid_the_owner_logs_in() {
    the_owner_logs_in(&apache_fcgid::start(&setup("")).expect("Apache starts"));
}

#[test]
fn below_a_folder_the_owner_logs_in() {
    the_owner_logs_in(&apache_fcgid::start(&setup("/project")).expect("Apache starts"));
}

#[test]
fn at_home_a_password_is_generated() {
    let running = serve::start(&setup("")).expect("it starts");
    // It is printed once the site is served, and a request may be faster.
    let deadline = Instant::now() + Duration::from_secs(20);
    let password = loop {
        let printed = fs::read_to_string(running.folder().join("run/app.log")).expect("a log");
        let line = printed.lines().find_map(|line| line.trim().strip_prefix("Log in with:"));
        if let Some(password) = line.and_then(|line| line.split_whitespace().next()) {
            break password.to_owned();
        }
        assert!(Instant::now() < deadline, "{printed}");
        thread::sleep(Duration::from_millis(20));
    };
    let mut browser = Browser::new(&running);
    assert_eq!(browser.log_in("/login", &password).status, 303);
    assert_eq!(browser.get("/admin").text(), "what only the owner sees\n");
}

#[test]
fn its_commands_and_settings_are_named_after_it() {
    let folder = Folder::new(&setup("")).expect("a folder");
    let help = text(&run(folder.path(), &["--help"], ""));
    for command in ["set-password", "hash-password", "backup", "restore", "store"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        let help = text(&run(folder.path(), &[command, "--help"], ""));
        assert!(!help.contains("oolshed") && !help.contains('{'), "{help}");
    }
    let checked = text(&run(folder.path(), &["check"], ""));
    let hint = "no password is set, so nobody can log in.\n                      Hint: Set one with guarded-app set-password;";
    assert!(checked.contains(hint), "{checked}");
    let weak = run(folder.path(), &["set-password"], "secret");
    assert_eq!(weak.status.code(), Some(2));
    assert!(text(&weak).contains("Hint: Nothing was changed."), "{}", text(&weak));
    let set = run(folder.path(), &["set-password"], PASSWORD);
    assert!(set.status.success(), "{}", text(&set));
    let checked = text(&run(folder.path(), &["check"], ""));
    assert!(checked.contains("ok     Login          the password is in "), "{checked}");
    // The owner's shell is the owner.
    let page = run(folder.path(), &["request", "GET", "/admin"], "");
    assert!(text(&page).contains("what only the owner sees"), "{}", text(&page));
    let own = run(folder.path(), &["backup", "data/secret.key"], "");
    assert!(text(&own).contains("belongs to the site"), "{}", text(&own));
    let listed = text(&run(folder.path(), &["settings"], ""));
    assert!(listed.contains("session_idle") && !listed.contains("pbkdf2"), "{listed}");
}
