//! `toolshed check`, and `./dispatch.fcgi` in a shell: correct and broken installations.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;

use crate::login::set_up;
use crate::program::Installation;

/// A complete, correct installation, with the document root next to the program's folder.
fn installed() -> Installation {
    let installation = Installation::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let site = installation.path().join("www");
    copy_folder(&source.join("static"), &site.join("static"));
    std::fs::copy(source.join("dispatch.fcgi"), site.join("dispatch.fcgi")).unwrap();
    std::fs::copy(source.join("htaccess"), site.join(".htaccess")).unwrap();
    for (name, mode) in
        [("", 0o755), ("dispatch.fcgi", 0o755), (".htaccess", 0o644), ("static", 0o755)]
    {
        chmod(&site.join(name), mode);
    }
    let home = installation.path().join("toolshed-home");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::symlink("../toolshed", home.join("toolshed")).unwrap();
    chmod(installation.path(), 0o755);
    installation
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The `listen` setting, whose check would otherwise depend on what else runs on this machine.
pub(crate) const LISTEN: (&str, &str) = ("TOOLSHED_LISTEN", "unix:own.sock");

/// Returns the line about one subject, and the hint below it.
pub(crate) fn about(text: &str, subject: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    let at =
        lines.iter().position(|line| line.get(7..).is_some_and(|rest| rest.starts_with(subject)));
    let at = at.unwrap_or_else(|| panic!("nothing about {subject} in\n{text}"));
    let hint = lines.get(at + 1).filter(|line| line.trim_start().starts_with("Hint: "));
    let line = lines[at].split_whitespace().collect::<Vec<_>>().join(" ");
    hint.map_or(line.clone(), |hint| format!("{line}\n{}", hint.trim()))
}

#[test]
fn a_complete_installation_passes() {
    let (code, text) =
        installed().run(&["check", "www"], &[LISTEN, ("APP_PASSWORD", "a password")]);
    let files = site_files();
    let expected = format!(
        "ok     Program        toolshed 0.1.0, HOME/toolshed.
ok     Configuration  no toolshed.toml, 1 setting.
ok     Log            HOME/logs/toolshed.log, not yet created.
ok     Data           HOME/data, not yet created.
ok     Login          the password is in the environment.
ok     Blobs          HOME/data/blobs, not yet created.
ok     Listening      unix:own.sock is free.
ok     Launcher       www/dispatch.fcgi, from this version.
ok     Launcher       it starts this program, HOME/toolshed-home/toolshed.
ok     Rewrite rules  www/.htaccess, from this version.
ok     Static files   www/static, {files} files, from this version.
"
    );
    assert_eq!(text, expected);
    assert_eq!(code, 0);

    // Of two passwords, the one in effect is named.
    let installation = installed();
    let hash = "MDEyMzQ1Njc4OWFiY2RlZg:kYKAg_dg7WC7VQ4k8-iaopu8snxCGdA0xMTwPC5tudk";
    let line = format!("password_hash = \"pbkdf2-sha256:600000:{hash}\"\n");
    std::fs::write(installation.path().join("toolshed.toml"), line).unwrap();
    let (_, text) = installation.run(&["check", "www"], &[LISTEN, ("APP_PASSWORD", "a password")]);
    assert_eq!(
        about(&text, "Login"),
        "note Login the password is in the environment; the one in HOME/toolshed.toml is not used.\n\
         Hint: Remove APP_PASSWORD from the environment to use the password in the file."
    );
}

fn site_files() -> usize {
    fn count(folder: &Path) -> usize {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.map(|path| if path.is_dir() { count(&path) } else { 1 }).sum()
    }
    count(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../static"))
}

#[test]
fn it_changes_nothing() {
    let installation = installed();
    let before = listing(installation.path());
    installation.run(&["check", "www"], &[LISTEN]);
    assert_eq!(listing(installation.path()), before);
}

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn problems_are_reported_with_a_cure() {
    type Case = (&'static str, fn(&Path), &'static str, i32, &'static str);
    let cases: &[Case] = &[
        (
            "a launcher that may not be run",
            |home| chmod(&home.join("www/dispatch.fcgi"), 0o644),
            "Launcher",
            1,
            "wrong Launcher www/dispatch.fcgi is not executable (mode 644).\nHint: chmod 755 www/dispatch.fcgi",
        ),
        (
            "group-writable, which suexec refuses",
            |home| chmod(&home.join("www/dispatch.fcgi"), 0o775),
            "Launcher",
            1,
            "wrong Launcher www/dispatch.fcgi is writable by others (mode 775), which suexec refuses.\nHint: chmod 755 www/dispatch.fcgi",
        ),
        (
            "Windows line ends",
            |home| {
                let file = home.join("www/dispatch.fcgi");
                let text = std::fs::read_to_string(&file).unwrap();
                std::fs::write(&file, text.replace('\n', "\r\n")).unwrap();
            },
            "Launcher",
            1,
            "wrong Launcher www/dispatch.fcgi has Windows line endings and cannot start.\nHint: Upload it again in binary mode.",
        ),
        (
            "no launcher",
            |home| std::fs::remove_file(home.join("www/dispatch.fcgi")).unwrap(),
            "Launcher",
            1,
            "wrong Launcher www/dispatch.fcgi cannot be read: no such file.\nHint: Upload dispatch.fcgi into the site's folder, or name that folder: toolshed check FOLDER",
        ),
        (
            "a launcher of another version",
            |home| std::fs::write(home.join("www/dispatch.fcgi"), "#!/bin/sh\n").unwrap(),
            "Launcher",
            0,
            "note Launcher www/dispatch.fcgi is not from this version.\nHint: Upload the dispatch.fcgi that came with the program, unless you changed it yourself.",
        ),
        (
            "no program where the launcher looks",
            |home| std::fs::remove_file(home.join("toolshed-home/toolshed")).unwrap(),
            "Launcher       it",
            1,
            "wrong Launcher it finds no program at HOME/www/toolshed, HOME/toolshed-home/toolshed.\nHint: Put toolshed at one of these places, with mode 755.",
        ),
        (
            "another program before this one",
            |home| std::fs::write(home.join("www/toolshed"), "").unwrap(),
            "Launcher       it",
            0,
            "note Launcher it starts another program, HOME/www/toolshed.\nHint: Ask that one: HOME/www/toolshed check",
        ),
        (
            "a folder that others may change",
            |home| chmod(&home.join("www"), 0o777),
            "Folder",
            1,
            "wrong Folder www is writable by others (mode 777), which suexec refuses.\nHint: chmod 755 www",
        ),
        (
            "no rules",
            |home| std::fs::remove_file(home.join("www/.htaccess")).unwrap(),
            "Rewrite rules",
            0,
            "note Rewrite rules www/.htaccess is missing, so Apache passes no requests to dispatch.fcgi.\nHint: Upload the file htaccess as .htaccess; other web servers need none.",
        ),
        (
            "rules that the web server cannot read",
            |home| chmod(&home.join("www/.htaccess"), 0o600),
            "Rewrite rules",
            1,
            "wrong Rewrite rules www/.htaccess cannot be read by the web server (mode 600).\nHint: chmod 644 www/.htaccess",
        ),
        (
            "old static files",
            |home| std::fs::write(home.join("www/static/site.css"), "old").unwrap(),
            "Static files",
            1,
            "wrong Static files www/static is not from this version: site.css.\nHint: Remove that folder (the program has these files in it), or upload the one that came with it.",
        ),
        (
            "no static files",
            |home| std::fs::remove_dir_all(home.join("www/static")).unwrap(),
            "Static files",
            0,
            "ok Static files no www/static: the program serves them itself.",
        ),
        (
            "a log that is a folder",
            |home| std::fs::create_dir_all(home.join("logs/toolshed.log")).unwrap(),
            "Log",
            1,
            "wrong Log HOME/logs/toolshed.log is not a file.\nHint: Set log to another file.",
        ),
        (
            "a log below a file",
            |home| std::fs::write(home.join("logs"), "").unwrap(),
            "Log",
            1,
            "wrong Log HOME/logs/toolshed.log cannot be created: HOME/logs is not writable.\nHint: Set log to a file in a folder of yours.",
        ),
        (
            "no password",
            |_| {},
            "Login",
            0,
            "note Login no password is set, so nobody can log in.\nHint: Set one with toolshed set-password; docs/login.md lists all ways.",
        ),
        (
            "a password that is to be set",
            |home| std::fs::write(home.join("toolshed.setup"), "a text of 16 characters").unwrap(),
            "Login",
            0,
            "note Login no password is set yet; HOME/toolshed.setup opens the set-up page.\nHint: Open the site and choose Log in, Set up the site.",
        ),
        (
            "a password in .htaccess",
            |home| {
                let file = home.join("www/.htaccess");
                let rules = std::fs::read_to_string(&file).unwrap();
                std::fs::write(&file, format!("{rules}setenv \"APP_PASSWORD\" \"my word\"\n"))
                    .unwrap();
            },
            "Login",
            0,
            "ok Login the password is in www/.htaccess.",
        ),
        (
            "no password in .htaccess",
            |home| {
                let file = home.join("www/.htaccess");
                let rules = std::fs::read_to_string(&file).unwrap();
                let lines =
                    "#SetEnv APP_PASSWORD x\nSetEnv APP_PASSWORD \"\"\nSetEnv APP_PASSWORDS x\n";
                std::fs::write(&file, rules + lines).unwrap();
            },
            "Login",
            0,
            "note Login no password is set, so nobody can log in.\nHint: Set one with toolshed set-password; docs/login.md lists all ways.",
        ),
        (
            "a store that is none",
            |home| {
                std::fs::create_dir(home.join("data")).unwrap();
                std::fs::write(
                    home.join("data/toolshed.db"),
                    "not a database, and long enough to say so",
                )
                .unwrap();
            },
            "Store",
            1,
            "wrong Store the store is damaged (file is not a database); put a backup in its place with the command `restore`, or remove it to start over.\nHint: Until then nobody can log in, and tools that store something do not work.",
        ),
        (
            "no address of its own, started by a web server",
            |_| {},
            "Listening",
            0,
            "ok Listening on the socket of the web server that starts dispatch.fcgi.",
        ),
        (
            "a hash that others may read",
            |home| {
                let hash = "MDEyMzQ1Njc4OWFiY2RlZg:kYKAg_dg7WC7VQ4k8-iaopu8snxCGdA0xMTwPC5tudk";
                let line = format!("password_hash = \"pbkdf2-sha256:600000:{hash}\"\n");
                std::fs::write(home.join("toolshed.toml"), line).unwrap();
                chmod(&home.join("toolshed.toml"), 0o644);
            },
            "Login",
            0,
            "note Login the password's hash in HOME/toolshed.toml can be read by others (mode 644).\nHint: chmod 600 HOME/toolshed.toml",
        ),
        (
            "a folder of data that others may look into",
            |home| {
                std::fs::create_dir(home.join("data")).unwrap();
                chmod(&home.join("data"), 0o755);
            },
            "Data",
            0,
            "note Data HOME/data can be listed by others (mode 755).\nHint: chmod 700 HOME/data",
        ),
        (
            "a file in the place of that folder",
            |home| std::fs::write(home.join("data"), "").unwrap(),
            "Data",
            1,
            "wrong Data HOME/data is not a folder, so nothing can be kept there.\nHint: Set data to a folder.",
        ),
        (
            "a folder of data that others may change",
            |home| {
                std::fs::create_dir(home.join("data")).unwrap();
                chmod(&home.join("data"), 0o777);
            },
            "Data",
            1,
            "wrong Data HOME/data is writable by others (mode 777).\nHint: chmod 700 HOME/data",
        ),
        (
            "a folder in the place of its journal",
            |home| {
                std::fs::create_dir_all(home.join("data/toolshed.db-journal")).unwrap();
                chmod(&home.join("data"), 0o700);
                std::fs::write(home.join("data/toolshed.db"), "").unwrap();
            },
            "Store",
            1,
            "wrong Store HOME/data/toolshed.db-journal cannot be used: not a regular file; remove it.\nHint: Until then nobody can log in, and tools that store something do not work.",
        ),
        (
            "a store of another program",
            |home| {
                std::fs::create_dir(home.join("data")).unwrap();
                chmod(&home.join("data"), 0o700);
                let store = rusqlite::Connection::open(home.join("data/toolshed.db")).unwrap();
                store.execute_batch("CREATE TABLE migrations (id INTEGER PRIMARY KEY)").unwrap();
            },
            "Store",
            1,
            "wrong Store where the store is, another program has made a table named migrations; give the site a database of its own.\nHint: Until then nobody can log in, and tools that store something do not work.",
        ),
        (
            "an address without its folder",
            |home| std::fs::write(home.join("toolshed.toml"), "listen = \"unix:run/s\"").unwrap(),
            "Listening",
            1,
            "wrong Listening cannot listen on unix:HOME/run/s: the folder HOME/run does not exist.\nHint: Choose a port of 1024 or more, or a socket in a folder of yours.",
        ),
        (
            "a wrong setting",
            |home| std::fs::write(home.join("toolshed.toml"), "quark = 1").unwrap(),
            "Configuration",
            2,
            "wrong Configuration one setting is wrong.\nHint: See below.",
        ),
    ];
    for (name, break_it, subject, code, expected) in cases {
        let installation = installed();
        break_it(installation.path());
        let (found, text) = installation.run(&["check", "www"], &[]);
        assert_eq!(about(&text, subject), *expected, "{name}");
        assert_eq!(found, *code, "{name}: {text}");
        assert_eq!(text.contains("\n! toolshed: 1 problem found.\n"), *code == 1, "{text}");
    }
}

/// Runs as an unprivileged account, because root may write everywhere.
#[test]
fn unwritable_paths_are_reported() {
    type Case = (&'static str, fn(&Path), &'static str);
    let cases: [Case; 4] = [
        (
            "a folder of another account's",
            |data| chmod(data, 0o555),
            "wrong Data HOME/data cannot be written by this account, so nothing can be kept there.\nHint: chmod 700 HOME/data, or set data to another folder.",
        ),
        (
            "a store of another account's",
            |data| {
                std::fs::write(data.join("toolshed.db"), "").unwrap();
                chmod(&data.join("toolshed.db"), 0o444);
            },
            "wrong Store HOME/data/toolshed.db cannot be used by this account.\nHint: Give it to the site's account (chown) and set its mode to 600.",
        ),
        (
            "a key of another account's",
            |data| {
                std::fs::write(data.join("secret.key"), "").unwrap();
                chmod(&data.join("secret.key"), 0o000);
            },
            "wrong Secret key HOME/data/secret.key cannot be used by this account.\nHint: Give it to the site's account (chown) and set its mode to 600.",
        ),
        (
            "a folder below one of another account's",
            |data| {
                let file = data.with_file_name("toolshed.toml");
                std::fs::write(file, "data = \"/proc/nowhere/data\"").unwrap();
            },
            "wrong Data /proc/nowhere/data cannot be created, so nothing can be kept there.\nHint: Set data to a folder of yours.",
        ),
    ];
    for (name, break_it, expected) in cases {
        let installation = installed();
        let data = installation.path().join("data");
        std::fs::create_dir(&data).unwrap();
        break_it(&data);
        let mut command = installation.command(&["check", "www"], &[]);
        if std::fs::metadata(&data).unwrap().uid() == 0 {
            // The folder belongs to that account, unless the folder is what is wrong.
            if std::fs::read_dir(&data).unwrap().count() > 0 {
                std::os::unix::fs::chown(&data, Some(NOBODY), None).unwrap();
            }
            command.uid(NOBODY);
        }
        let output = command.output().unwrap();
        let text = installation.without_folder(&String::from_utf8_lossy(&output.stdout));
        let subject = ["Data", "Store", "Secret key"]
            .into_iter()
            .find(|it| expected.starts_with(&format!("wrong {it} ")));
        assert_eq!(about(&text, subject.unwrap()), expected, "{name}");
        assert_eq!(output.status.code(), Some(1), "{name}: {text}");
    }
}

/// Root does not serve from another account's folder, but may copy its store in the shell.
#[test]
fn a_folder_of_another_account_is_reported() {
    let installation = installed();
    let data = installation.path().join("data");
    std::fs::create_dir(&data).unwrap();
    if std::fs::metadata(&data).unwrap().uid() != 0 {
        return;
    }
    std::os::unix::fs::chown(&data, Some(NOBODY), None).unwrap();
    let (_, text) = installation.run(&["check", "www"], &[]);
    let expected = "note Data HOME/data belongs to another account (uid 65534).\nHint: Fine if the site runs as that account; if it runs as root, nothing can be kept there.";
    assert_eq!(about(&text, "Data"), expected);
    let store = rusqlite::Connection::open(data.join("toolshed.db")).unwrap();
    store.pragma_update(None, "application_id", 0x7368_6564).unwrap();
    drop(store);
    std::os::unix::fs::chown(data.join("toolshed.db"), Some(NOBODY), None).unwrap();
    let (code, text) = installation.run(&["backup", "copy.db"], &[]);
    assert_eq!(code, 0, "{text}");
}

#[test]
fn leftovers_of_a_killed_backup_are_reported_with_their_size() {
    let installation = installed();
    let left = installation.path().join("data/.copy.a1b2c3");
    std::fs::create_dir_all(&left).unwrap();
    std::fs::write(left.join("copy.db"), [0; 5000]).unwrap();
    std::fs::File::open(&left).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    let (_, text) = installation.run(&["check", "www"], &[]);
    let expected = "HOME/data/.copy.a1b2c3 (5 KiB) was left by a killed backup.";
    assert!(text.contains(expected), "{text}");
}

/// An account that owns nothing, for tests that run as root.
pub(crate) const NOBODY: u32 = 65_534;

#[test]
fn without_a_launcher_the_default_address_is_checked() {
    let (code, text) = Installation::new().run(&["check"], &[]);
    assert_eq!(code, 0, "{text}");
    assert!(about(&text, "Listening").contains("127.0.0.1:8080 is "), "{text}");
}

#[test]
fn a_password_from_the_set_up_page_is_found_without_changing_anything() {
    let installation = installed();
    installation.write("toolshed.setup", "a text of 16 characters");
    let running = installation.start_external(&[]);
    set_up(&running, "a text of 16 characters", "a new password");
    running.end();
    let data = installation.path().join("data");
    let before = (listing(&data), std::fs::read(data.join("toolshed.db")).unwrap());
    let (code, text) = installation.run(&["check", "www"], &[]);
    assert_eq!(code, 0, "{text}");
    let expected = "ok Login the password set on the set-up page is in HOME/data/toolshed.db.";
    assert_eq!(about(&text, "Login"), expected);
    assert_eq!((listing(&data), std::fs::read(data.join("toolshed.db")).unwrap()), before);
}

#[test]
fn an_address_in_use_is_only_a_note() {
    let installation = installed();
    let _taken =
        std::os::unix::net::UnixListener::bind(installation.path().join("own.sock")).unwrap();
    let (code, text) = installation.run(&["check", "www"], &[LISTEN]);
    assert_eq!(code, 0, "{text}");
    assert_eq!(
        about(&text, "Listening"),
        "note Listening unix:own.sock is in use by another process.\n\
         Hint: Fine if that is this site; otherwise stop it or set listen."
    );
}

#[test]
fn a_variable_similar_to_a_setting_is_reported() {
    let (code, text) = installed().run(&["check", "www"], &[("TOOLSHED_PUBILC", "all")]);
    assert_eq!(code, 0, "{text}");
    assert!(
        text.contains(
            "The unknown variable `TOOLSHED_PUBILC` has no effect; did you mean `TOOLSHED_PUBLIC`?"
        ),
        "{text}"
    );
}

#[test]
fn the_launcher_in_a_shell_explains_itself_and_runs_the_check() {
    let installation = installed();
    let launcher = installation.path().join("www/dispatch.fcgi");
    let (code, text) = installation.run(&[], &[("TOOLSHED_LAUNCHER", launcher.to_str().unwrap())]);
    assert_eq!(code, 0, "{text}");
    let start = "The launcher found toolshed 0.1.0, and it runs.

dispatch.fcgi is started by the web server (FastCGI), not by hand: open the
site's address in a browser. To see the site without a web server, run the
program itself: toolshed serve

ok     Program        toolshed 0.1.0, HOME/toolshed.
";
    assert!(text.starts_with(start), "{text}");
    assert!(
        text.contains("ok     Launcher       HOME/www/dispatch.fcgi, from this version.\n"),
        "{text}"
    );
}
