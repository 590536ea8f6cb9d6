//! Starting: a failed start leaves nothing behind and reports why; a server in the background keeps running.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::program::Installation;

fn listing(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Builds the command, started by a shell that runs `first`. Signals that were ignored when the tests were started
/// (`nohup`, a background job) are reset, which a shell cannot do.
fn after(first: &str, installation: &Installation, arguments: &[&str]) -> Command {
    let mut shell = Command::new("/usr/bin/env");
    shell
        .args(["--default-signal=HUP,INT,QUIT,TERM", "/bin/sh", "-c"])
        .arg(format!("{first}; exec \"$0\" \"$@\""))
        .arg(installation.program());
    shell.args(arguments).env_clear().current_dir(installation.path()).stdin(Stdio::null());
    shell
}

/// Returns the output of a start that fails. One that does not fail is killed.
fn output(mut command: Command) -> Output {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    ended_or_killed(&mut child);
    child.wait_with_output().unwrap()
}

/// Waits for a process to exit on its own; kills it after a while.
fn ended_or_killed(child: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let no_folder = "unix:/nowhere/at/all/socket";
    for (first, arguments) in [
        (":", &["serve", "--listen", &taken] as &[&str]),
        (":", &["serve", "--workers", "2", "--listen", &taken]),
        (":", &["serve", "--listen", no_folder]),
        // Not an address of this machine (RFC 5737).
        (":", &["serve", "--listen", "192.0.2.1:8080"]),
        (":", &["serve", "--listen", "localhost"]),
        (":", &["fastcgi", "--listen", &taken]),
        (":", &["fastcgi", "--workers", "2", "--listen", no_folder]),
        (":", &["fastcgi"]),
        ("ulimit -n 10", &["serve", "--listen", "127.0.0.1:0"]),
        ("ulimit -n 10", &["fastcgi", "--listen", "unix:own.sock"]),
        // Not enough memory for the alternate stack, for the loop, or for anything.
        ("ulimit -v 40000", &["serve", "--listen", &taken]),
    ] {
        let installation = Installation::new();
        let output = output(after(first, &installation, arguments));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && !error.is_empty(), "{first}; {arguments:?}: {error}");
        assert_eq!(listing(installation.path()), ["toolshed"], "{first}; {arguments:?}: {error}");
    }
    // A failed start under a web server can only use the log, which says why.
    let installation = Installation::new();
    let listener = UnixListener::bind(installation.path().join("socket")).unwrap();
    let mut command = after("ulimit -n 10", &installation, &[]);
    command.stdin(OwnedFd::from(listener));
    let output = output(command);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(listing(installation.path()), ["logs", "socket", "toolshed"]);
    let log = installation.read("logs/toolshed.log");
    assert!(log.contains("may have only 10 descriptors open") && log.lines().count() == 1, "{log}");
}

#[test]
fn too_few_descriptors_are_reported_with_a_cure() {
    let installation = Installation::new();
    for limit in 4..20 {
        for arguments in [
            &["serve", "--listen", "127.0.0.1:0"] as &[&str],
            &["serve", "--listen", "127.0.0.1:0", "--workers", "2"],
            &["fastcgi", "--listen", "unix:own.sock"],
        ] {
            let output = output(after(&format!("ulimit -n {limit}"), &installation, arguments));
            let error = String::from_utf8_lossy(&output.stderr);
            let expected = format!(
                "toolshed: This process may have only {limit} descriptors open, and a server needs 20 \
                 or more. Raise the limit: `ulimit -n 1024` in a shell, LimitNOFILE=1024 in a \
                 systemd unit; elsewhere ask your host.\n"
            );
            assert_eq!((output.status.code(), &*error), (Some(1), &*expected), "{arguments:?}");
        }
    }
    // With just enough, the site is served.
    let serving = Serving::start(after("ulimit -n 20", &installation, SERVE));
    for _ in 0..3 {
        assert!(serving.ask().starts_with("HTTP/1.1 200"));
    }
    assert_eq!(serving.end(), Some(0));
}

/// `nohup` and a shell without job control ignore signals, which must not stop the server then.
#[test]
fn signals_ignored_at_startup_stay_ignored() {
    let installation = Installation::new();
    for arguments in [SERVE, SERVE_BY_WORKERS] {
        let serving = Serving::start(after("trap '' HUP INT QUIT", &installation, arguments));
        for signal in ["HUP", "INT", "QUIT"] {
            serving.signal(signal);
            for _ in 0..3 {
                let response = serving.ask();
                assert!(
                    response.starts_with("HTTP/1.1 200"),
                    "{arguments:?} after {signal}: {response}"
                );
            }
        }
        assert_eq!(serving.end(), Some(0), "{arguments:?}: it still can be ended");
    }
    // At a terminal, or without a shell, the server gets Ctrl-C.
    let serving = Serving::start(after(":", &installation, SERVE));
    serving.signal("INT");
    assert_eq!(serving.ended(), Some(0));
}

const SERVE: &[&str] = &["serve", "--listen", "127.0.0.1:0"];
const SERVE_BY_WORKERS: &[&str] = &["serve", "--listen", "127.0.0.1:0", "--workers", "2"];

/// `toolshed serve`; killed when dropped.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(mut command: Command) -> Serving {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().rsplit_once("http://").unwrap_or_else(|| panic!("{line}")).1;
        Serving { address: address.to_owned(), child }
    }

    fn ask(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
        let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    fn signal(&self, name: &str) {
        let number = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(number).status().unwrap();
        assert!(sent.success());
    }

    fn end(self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }

    /// Returns its exit code; none, as for a killed process, if it does not exit on its own.
    fn ended(mut self) -> Option<i32> {
        ended_or_killed(&mut self.child);
        self.child.wait().unwrap().code()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
