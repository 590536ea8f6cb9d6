//! The owner's password: set at the terminal, read from wherever it is set, shown nowhere.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::process::{Command, Stdio};

use crate::program::{Installation, Running};

pub(crate) const PASSWORD: &str = "correct horse battery";

/// Runs a command with a password on standard input.
fn hashed(installation: &Installation, typed: &str) -> (i32, String, String) {
    typed_to(installation.command(&["hash-password"], &[]), typed)
}

/// Runs a command with this standard input; returns exit code, standard output and standard error.
fn typed_to(mut command: Command, typed: &str) -> (i32, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that refuses before reading has already exited.
    let _ = child.stdin.take().unwrap().write_all(typed.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Logs in like a browser, over FastCGI; returns the response to the form and the session's cookie.
pub(crate) fn log_in(
    running: &Running,
    typed: &str,
    more: &[(&str, &str)],
) -> (String, Option<String>) {
    let response =
        fill_in(running, "/login", &format!("password={}", typed.replace(' ', "+")), more);
    let session = response
        .split_once("set-cookie: toolshed=")
        .map(|(_, rest)| rest.split(';').next().unwrap());
    let session = session.map(|value| format!("toolshed={value}"));
    (response, session)
}

/// Sets the site's first password on the set-up page.
pub(crate) fn set_up(running: &Running, token: &str, password: &str) {
    let [token, password] = [token, password].map(|text| text.replace(' ', "+"));
    let fields = format!("token={token}&password={password}&again={password}");
    let response = fill_in(running, "/set-up", &fields, &[]);
    assert!(response.contains("\r\nStatus: 303"), "{response}");
}

/// Loads a form and submits it with these fields.
fn fill_in(running: &Running, path: &str, fields: &str, more: &[(&str, &str)]) -> String {
    let ask = |variables: &[(&str, &str)], body: &str| {
        running.ask_with_body(&[variables, more, &[("HTTP_ACCEPT", "text/html")]].concat(), body)
    };
    let form = ask(&[("REQUEST_URI", path)], "");
    let token = form.split_once("name=\"csrf\" value=\"").unwrap_or_else(|| panic!("{form}")).1;
    let token = token.split('"').next().unwrap();
    let cookie = form.split_once("set-cookie: ").unwrap().1.split(';').next().unwrap().to_owned();
    let body = format!("csrf={token}&{fields}");
    ask(
        &[
            ("REQUEST_METHOD", "POST"),
            ("REQUEST_URI", path),
            ("CONTENT_TYPE", "application/x-www-form-urlencoded"),
            ("CONTENT_LENGTH", &body.len().to_string()),
            ("HTTP_COOKIE", &cookie),
        ],
        &body,
    )
}

#[test]
fn a_hash_made_at_the_terminal_opens_the_site() {
    let installation = Installation::new();
    let (code, line, said) = hashed(&installation, &format!("{PASSWORD}\n"));
    assert_eq!((code, said.as_str()), (0, ""));
    assert!(line.starts_with("password_hash = \"pbkdf2-sha256:600000:"), "{line}");
    installation.write("toolshed.toml", &line);
    let running = installation.spawn_by_web_server(&[]);
    let (response, session) = log_in(&running, "wrong", &[]);
    assert!(response.starts_with("Status: 401") && session.is_none(), "{response}");
    let (response, session) = log_in(&running, PASSWORD, &[]);
    assert!(response.contains("\r\nStatus: 303"), "{response}");
    let tool =
        running.ask(&[("REQUEST_URI", "/tools/inspect"), ("HTTP_COOKIE", &session.unwrap())]);
    assert!(tool.starts_with("Status: 200"), "{tool}");

    // Only this account has access to what the site has created.
    for (name, mode) in [
        ("data", 0o700),
        ("data/toolshed.db", 0o600),
        ("data/secret.key", 0o600),
        ("logs", 0o700),
        ("logs/toolshed.log", 0o600),
    ] {
        let found = fs::metadata(installation.path().join(name)).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, mode, "{name}");
    }
    let log = installation.read("logs/toolshed.log");
    assert!(
        log.contains("logged in") && !log.contains(PASSWORD) && !log.contains("wrong\""),
        "{log}"
    );

    assert!(!log.contains("in place"), "the password is checked in a child: {log}");

    // The check left no process behind, and no thread was started.
    assert_eq!(fs::read_dir(format!("/proc/{}/task", running.child.id())).unwrap().count(), 1);
    let (code, _) = running.end();
    assert_eq!(code, 0);
}

#[test]
fn set_password_changes_nothing_else_in_the_file() {
    let installation = Installation::new();
    let file = installation.path().join("toolshed.toml");
    let set = |typed: &str| typed_to(installation.command(&["set-password"], &[]), typed);
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let files = || fs::read_dir(installation.path()).unwrap().count();

    // No file yet.
    let (code, said, error) = set(PASSWORD);
    assert_eq!((code, error.as_str()), (0, ""), "{said}");
    assert!(said.starts_with("The password is set in ") && said.lines().count() == 2, "{said}");
    assert_eq!((mode(), files()), (0o600, 2));

    // A running site picks up the next one, and the rest of the file is unchanged.
    let running = installation.spawn_by_web_server(&[]);
    assert!(log_in(&running, PASSWORD, &[]).0.contains("\r\nStatus: 303"));
    let hash = installation.read("toolshed.toml").trim().to_owned();
    let text = format!("\u{feff}# mine\r\nhsts = \"1 h\"\r\n\r\n  {hash}  # of last year\r\n# end");
    installation.write("toolshed.toml", &text);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    let (code, said, _) = set("another long password\n");
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("others can read that file (mode 640): chmod 600 "), "{said}");
    let changed = installation.read("toolshed.toml");
    let new = changed.split('"').nth(3).unwrap();
    assert_eq!(changed, text.replace(hash.split('"').nth(1).unwrap(), new));
    assert!(new.starts_with("pbkdf2-sha256:") && !hash.contains(new));
    assert_eq!(mode(), 0o640);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while !log_in(&running, "another long password", &[]).0.contains("\r\nStatus: 303") {
        assert!(std::time::Instant::now() < deadline, "{}", installation.read("logs/toolshed.log"));
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    running.end();

    // Through a link: the file it points to changes.
    fs::rename(&file, installation.path().join("elsewhere.toml")).unwrap();
    std::os::unix::fs::symlink("elsewhere.toml", &file).unwrap();
    installation.write("elsewhere.toml", &format!("{hash}\nhsts = \"1 h\"\n{hash}\n"));
    let (code, said) = installation.run(&["settings"], &[]);
    let expected = "! toolshed: toolshed.toml, line 3: password_hash is already set in line 1; delete \
                    one of the two lines, or replace both with `toolshed set-password`.\n";
    assert!(code == 2 && said.starts_with(expected), "{said}");
    assert_eq!(set(PASSWORD).0, 0);
    assert!(fs::symlink_metadata(&file).unwrap().is_symlink());
    let lines = installation.read("elsewhere.toml").lines().count();
    assert_eq!((installation.run(&["settings"], &[]).0, lines), (0, 2));
    // Sources that take precedence over the file.
    let command = installation.command(&["set-password"], &[("APP_PASSWORD", "x")]);
    let (_, said, _) = typed_to(command, PASSWORD);
    assert!(said.contains("while APP_PASSWORD is in the environment, that one takes"), "{said}");
    assert!(!said.contains("session"), "none ends: {said}");
}

/// Otherwise the site could no longer read its settings.
#[test]
fn a_file_that_root_writes_belongs_to_the_sites_account() {
    if !is_root() {
        return;
    }
    let installation = Installation::new();
    let file = installation.path().join("toolshed.toml");
    chown(installation.path(), Some(4242), Some(4243)).unwrap();
    for (what, owner) in [("a new file is the folder's", (4242, 4243)), ("it stays", (4244, 4245))]
    {
        if file.exists() {
            chown(&file, Some(owner.0), Some(owner.1)).unwrap();
        }
        let command = installation.command(&["set-password"], &[]);
        let (code, said, error) = typed_to(command, PASSWORD);
        assert_eq!(code, 0, "{said}{error}");
        let found = fs::metadata(&file).unwrap();
        assert_eq!(
            (found.uid(), found.gid(), found.mode() & 0o7777),
            (owner.0, owner.1, 0o600),
            "{what}"
        );
    }
}

#[test]
fn an_unwritable_file_is_reported_before_the_password_is_asked_for() {
    let installation = Installation::new();
    for (text, expected) in [
        ("a = 1 2\n", "toolshed.toml, line 1: invalid TOML"),
        ("a = 1\n[password_hash]\n", "toolshed.toml: it is a section there"),
        (
            "password_hash = \"x\"\nhsts = \"1 h\"\n\nhsts = \"2 h\"\n",
            "toolshed.toml, line 4: hsts is already set in line 2",
        ),
    ] {
        installation.write("toolshed.toml", text);
        let command = installation.command(&["set-password"], &[]);
        let (code, said, error) = typed_to(command, PASSWORD);
        assert_eq!((code, said.as_str()), (2, ""));
        assert!(error.contains(expected), "{error}");
        assert_eq!(installation.read("toolshed.toml"), text);
    }
    // Neither a wrong value of another setting nor a wrong hash matters.
    installation.write("toolshed.toml", "idle_timeout = \"never\"\npassword_hash = \"x\"\n");
    let (code, _, error) = typed_to(installation.command(&["set-password"], &[]), PASSWORD);
    assert_eq!(code, 0, "{error}");
    for (typed, expected) in [
        ("", "An empty password"),
        ("\n", "An empty password"),
        ("elevenchars\n", "at least 12 characters"),
        ("Password2024!\n", "too common"),
    ] {
        let before = installation.read("toolshed.toml");
        let (code, said, error) = typed_to(installation.command(&["set-password"], &[]), typed);
        assert_eq!((code, said.as_str(), installation.read("toolshed.toml")), (2, "", before));
        assert!(error.contains(expected) && error.contains("Nothing was changed."), "{error}");
    }
    // Another file, which is created if it does not exist.
    let arguments = ["set-password", "--config", "other.toml"];
    let (code, said, error) = typed_to(installation.command(&arguments, &[]), PASSWORD);
    assert_eq!(code, 0, "{said}{error}");
    assert!(installation.read("other.toml").starts_with("password_hash = "));
    let arguments = ["set-password", "--config", "nowhere/other.toml"];
    let (code, _, error) = typed_to(installation.command(&arguments, &[]), PASSWORD);
    assert_eq!(code, 1, "{error}");
    assert!(
        error.contains("nowhere/other.toml cannot be written: ") && error.contains("Nothing was")
    );
}

#[test]
fn a_hash_is_not_appended_to_a_file_that_has_one() {
    let installation = Installation::new();
    let append = || {
        let file = installation.path().join("toolshed.toml");
        let file = fs::File::options().append(true).open(file).unwrap();
        let mut command = installation.command(&["hash-password"], &[]);
        command.stdin(Stdio::piped()).stdout(file).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(PASSWORD.as_bytes());
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    // A last line without a newline stays a separate line.
    installation.write("toolshed.toml", "# password_hash = \"x\"\nhsts = \"1 h\"");
    assert_eq!(append(), (Some(0), String::new()));
    let (code, said) = installation.run(&["settings"], &[]);
    assert_eq!(code, 0, "{said}");
    let before = installation.read("toolshed.toml");
    let (code, error) = append();
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("already sets password_hash") && error.contains("set-password"),
        "{error}"
    );
    assert_eq!(installation.read("toolshed.toml"), before);
}

#[test]
fn short_and_empty_passwords_are_rejected() {
    let installation = Installation::new();
    let (code, line, said) = hashed(&installation, "short");
    assert_eq!(code, 0);
    assert!(
        line.starts_with("password_hash = ")
            && said.contains("at least 12 characters. Hash created anyway."),
        "{said}"
    );
    let (code, line, said) = hashed(&installation, "\n");
    assert_eq!((code, line.as_str()), (2, ""));
    assert_eq!(said, "toolshed: An empty password would open the site to everybody.\n");
}

#[test]
fn a_password_longer_than_the_login_accepts_is_refused() {
    let installation = Installation::new();
    let longest: String = (0..256).map(|number| format!("{number:04}")).collect();
    for command in ["hash-password", "set-password"] {
        let ask = |typed: &str| typed_to(installation.command(&[command], &[]), typed);
        let (code, line, said) = ask(&format!("{longest}x"));
        assert_eq!((code, line.as_str()), (2, ""), "{command}: {said}");
        assert!(said.starts_with("toolshed: The password is longer than 1024 bytes.\n"), "{said}");
        let (code, _, said) = ask(&format!("{longest}\n"));
        assert_eq!((code, said.as_str()), (0, ""), "{command}");
    }
}

#[test]
fn the_password_comes_from_the_environment_or_with_the_request() {
    let installation = Installation::new();
    let sent = ("APP_PASSWORD", "sent with it");
    let redirected = ("REDIRECT_APP_PASSWORD", "sent with it");
    for (environment, more, typed, opens) in [
        (
            &[("APP_PASSWORD", "of the environment")] as &[_],
            &[] as &[_],
            "of the environment",
            true,
        ),
        // Reaching the socket is not enough to replace the configured password.
        (&[("APP_PASSWORD", "of the environment")], &[sent], "sent with it", false),
        (&[], &[sent], "sent with it", true),
        (&[], &[redirected], "sent with it", true),
        (&[], &[sent], "another", false),
    ] {
        // Each has its own folder, and therefore its own throttle.
        let installation = Installation::new();
        let running = installation.spawn_by_web_server(environment);
        let (response, session) = log_in(&running, typed, more);
        assert_eq!(session.is_some(), opens, "{environment:?} {more:?} {typed}: {response}");
        if let Some(session) = session {
            let variables =
                [&[("REQUEST_URI", "/tools/inspect"), ("HTTP_COOKIE", &session)], more].concat();
            let page = running.ask(&variables);
            assert!(page.starts_with("Status: 200") && !page.contains("sent with it"), "{page}");
        }
    }
    // Over TCP, anyone on the machine could have sent it.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut command = installation.command(&[], &[]);
    command.stdin(OwnedFd::from(listener)).stdout(Stdio::piped()).stderr(Stdio::piped());
    let running = Running::over_tcp(command.spawn().unwrap(), address);
    let page = running.ask(&[("REQUEST_URI", "/login"), sent, ("HTTP_ACCEPT", "text/html")]);
    assert!(page.contains("No password yet"), "{page}");
}

#[test]
fn a_wrong_hash_is_named_and_not_shown() {
    let installation = Installation::new();
    for (file, environment) in [
        ("password_hash = \"my secret\"", &[] as &[_]),
        ("", &[("APP_PASSWORD_HASH", "my secret")]),
        ("", &[("TOOLSHED_PASSWORD_HASH", "my secret")]),
    ] {
        installation.write("toolshed.toml", file);
        let (code, text) = installation.run(&["tools"], environment);
        assert_eq!(code, 2);
        assert!(text.contains("write the line that the command `hash-password` prints"), "{text}");
        assert!(!text.contains("my secret"), "{text}");
    }
    let (_, line, _) = hashed(&installation, PASSWORD);
    installation.write("toolshed.toml", &line);
    let (code, text) = installation.run(&["settings"], &[]);
    assert_eq!(code, 0);
    let hash = line.split('"').nth(1).unwrap();
    assert!(text.contains("a secret that is not shown") && !text.contains(hash), "{text}");
}

#[test]
fn serve_on_loopback_generates_a_password_and_prints_it_only_at_the_terminal() {
    let installation = Installation::new();
    let mut seen = Vec::new();
    for environment in [&[] as &[_], &[], &[("APP_PASSWORD", "one of my own")]] {
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--log", "my.log"];
        let mut child =
            installation.command(&arguments, environment).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let greeting: Vec<_> =
            lines.by_ref().take_while(|line| !line.contains("Add a tool")).collect();
        let password = greeting.iter().find_map(|line| {
            let (_, password) = line.split_once("Log in with:   ")?;
            Some(password.split(' ').next().unwrap().to_owned())
        });
        if let Some(password) = &password {
            let address =
                greeting[0].split_once("http://").unwrap().1.trim_end_matches('/').to_owned();
            assert!(logs_in_over_http(&address, password) && !logs_in_over_http(&address, "wrong"));
            assert!(!installation.read("my.log").contains(password.as_str()));
        }
        seen.push(password);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(seen[0].is_some() && seen[0] == seen[1], "it stays the same: {seen:?}");
    assert_eq!(seen[2], None, "none is generated where one is set");
}

fn logs_in_over_http(address: &str, password: &str) -> bool {
    let ask = |head: &str, body: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(stream, "{head}\r\nHost: {address}\r\nAccept: text/html\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    };
    let form = ask("GET /login HTTP/1.1", "");
    let token = form.split_once("name=\"csrf\" value=\"").unwrap().1.split('"').next().unwrap();
    let cookie = form.split_once("set-cookie: ").unwrap().1.split(';').next().unwrap();
    let head = format!(
        "POST /login HTTP/1.1\r\nCookie: {cookie}\r\nContent-Type: application/x-www-form-urlencoded"
    );
    ask(&head, &format!("csrf={token}&password={password}")).starts_with("HTTP/1.1 303")
}

#[test]
fn a_copy_is_made_while_the_site_is_in_use() {
    let installation = Installation::new();
    let (code, text) = installation.run(&["backup", "copy.db"], &[]);
    assert_eq!(code, 1);
    assert!(
        text.starts_with(
            "! toolshed: Nothing to back up yet: HOME/data/toolshed.db does not exist.\n"
        ),
        "{text}"
    );
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    let (_, session) = log_in(&running, PASSWORD, &[]);
    let session = session.unwrap();
    let (code, text) = installation.run(&["backup", "copy.db"], &[]);
    assert_eq!((code, text.as_str()), (0, "Backed up HOME/data/toolshed.db to copy.db.\n"));
    let copy = installation.path().join("copy.db");
    assert_eq!(fs::metadata(&copy).unwrap().permissions().mode() & 0o7777, 0o600);

    // No file of the installation is replaced, by whatever name it is reached.
    let link = installation.path().join("another-name.db");
    fs::hard_link(installation.path().join("data/toolshed.db"), &link).unwrap();
    std::os::unix::fs::symlink("data", installation.path().join("link")).unwrap();
    installation.write("toolshed.toml", "");
    let own = ["data/secret.key", "data/toolshed.db", "data/toolshed.db-journal", "toolshed.toml"];
    let own = own.into_iter().chain(["toolshed", "toolshed.setup", "logs/toolshed.log"]);
    let before = |name: &str| fs::metadata(installation.path().join(name)).map(|it| it.ino()).ok();
    for name in own.chain(["link/secret.key", "link/../link/toolshed.db", "another-name.db"]) {
        let inode = before(name);
        let (code, text) = installation.run(&["backup", name], &[]);
        assert_eq!((code, before(name)), (1, inode), "{name}: {text}");
        assert!(text.contains("choose another name"), "{name}: {text}");
    }
    fs::remove_file(link).unwrap();

    for (name, why) in [
        (
            "nowhere/copy.db",
            "the folder nowhere cannot be used: No such file or directory (os error 2); name one",
        ),
        ("copy.db/copy.db", "the folder copy.db cannot be used: not a directory; name one"),
    ] {
        let (code, text) = installation.run(&["backup", name], &[]);
        assert_eq!(code, 1, "{text}");
        assert!(text.starts_with(&format!("! toolshed: No backup was made: {why}")), "{text}");
    }

    // Not created where others could replace it.
    let shared = installation.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let (code, text) = installation.run(&["backup", "shared/copy.db"], &[]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("could replace the copy in HOME/shared (mode 777)"), "{text}");
    assert_eq!(fs::read_dir(&shared).unwrap().count(), 0);

    // Restored while the site is in use, it takes effect; no session of it comes back, and none is left.
    let (_, later) = log_in(&running, PASSWORD, &[]);
    let file = installation.path().join("data/toolshed.db");
    let before = fs::read(&file).unwrap();
    let (code, text) = installation.run(&["restore", "copy.db"], &[]);
    let expected = "Restored HOME/data/toolshed.db from copy.db.\n\
                    All browsers have been logged out.\n\
                    The one before is kept as HOME/data/toolshed.db-replaced, until the next time.\n\
                    To undo this: toolshed restore HOME/data/toolshed.db-replaced\n";
    assert_eq!((code, text.as_str()), (0, expected));
    let ask =
        |cookie: &str| running.ask(&[("REQUEST_URI", "/tools/inspect"), ("HTTP_COOKIE", cookie)]);
    for cookie in [&session, &later.unwrap()] {
        assert!(ask(cookie).starts_with("Status: 401"));
    }
    let kept = installation.path().join("data/toolshed.db-replaced");
    assert!(fs::read(&kept).unwrap() == before);
    let (_, now) = log_in(&running, PASSWORD, &[]);
    assert!(ask(&now.unwrap()).starts_with("Status: 200"));
    // And back again.
    let (code, text) = installation.run(&["restore", kept.to_str().unwrap()], &[]);
    assert_eq!(code, 0, "{text}");
    assert!(fs::read(&kept).unwrap() != before);
}

#[test]
fn a_damaged_store_is_named_and_not_copied() {
    let installation = Installation::new();
    fs::create_dir(installation.path().join("data")).unwrap();
    installation
        .write("data/toolshed.db", "this is no database, however long the text in it may be");
    let (code, text) = installation.run(&["backup", "copy.db"], &[]);
    assert_eq!(code, 1);
    assert!(text.contains("the store is damaged") && text.contains("`restore`"), "{text}");
    assert!(!installation.path().join("copy.db").exists());
}

#[test]
fn in_the_shell_everything_is_the_owners() {
    let installation = Installation::new();
    let (code, text) = installation.run(&["request", "GET", "/tools/inspect"], &[]);
    assert_eq!(code, 0, "{text}");
    assert!(!installation.path().join("data").exists(), "nothing was opened for that");
}

/// Another account can neither read the key, the store or the log, nor reach the socket.
#[test]
fn another_account_has_no_access() {
    let installation = Installation::new();
    let running =
        installation.start_external(&[("APP_PASSWORD", PASSWORD), ("TOOLSHED_LOG", "logs/my.log")]);
    let (_, session) = log_in(&running, PASSWORD, &[]);
    assert!(session.is_some());
    fs::set_permissions(installation.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for file in ["data/secret.key", "data/toolshed.db", "logs/my.log", "own.sock"] {
        let path = installation.path().join(file);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file}");
        if is_root() {
            let mut command = Command::new("/bin/cat");
            let output = as_nobody(command.arg(&path)).output().unwrap();
            assert!(!output.status.success() && output.stdout.is_empty(), "{file}");
            assert!(
                String::from_utf8_lossy(&output.stderr).contains("Permission denied"),
                "{file}"
            );
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn as_nobody(command: &mut Command) -> &mut Command {
    std::os::unix::process::CommandExt::uid(command, 65_534)
}
