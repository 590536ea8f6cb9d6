//! What a crash leaves behind: the log line, the note for the quarantine, the program running in the same
//! process.
//!
//! Each case runs in a process of its own, and starts the server that crashes in another.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use app_server::{Address, Host, Part, Server, Settings, Transport};
use axum::Router;
use axum::routing::get;
use case_runner::{Case, Ending::Success, Helper, itself};
use http::Uri;
use process::reexec;
use rustix::process::{Signal, getpid, kill_process};

const CASES: &[Case] = &[
    ("a_crash_does_not_wait_for_a_reader", a_crash_does_not_wait_for_a_reader, Success),
    (
        "a_crash_is_recorded_only_in_a_regular_file",
        a_crash_is_recorded_only_in_a_regular_file,
        Success,
    ),
];

/// Started by cases, not by the runner.
const HELPERS: &[Helper] = &[("crashing_helper", crashing_helper)];

fn main() -> ExitCode {
    case_runner::main(CASES, HELPERS)
}

/// The log line about a crash goes to standard error. A full pipe, socket or terminal that is never read
/// must not keep the program, and with it the listen socket, from continuing.
fn a_crash_does_not_wait_for_a_reader() {
    fn filled(full: OwnedFd) -> OwnedFd {
        let number = full.as_raw_fd();
        // SAFETY: both take integers and touch no memory.
        let (get, set) = (
            || unsafe { libc::fcntl(number, libc::F_GETFL) },
            |flags: i32| assert_eq!(unsafe { libc::fcntl(number, libc::F_SETFL, flags) }, 0),
        );
        let flags = get();
        set(flags | libc::O_NONBLOCK);
        let mut full = File::from(full);
        for size in [65536, 4096, 512, 1] {
            while full.write(&vec![b'x'; size]).is_ok() {}
        }
        // Standard error is blocking, as web servers pass it on.
        set(flags);
        full.into()
    }
    let (reader, pipe) = std::io::pipe().unwrap();
    let (other_end, socket) = UnixStream::pair().unwrap();
    let (mut terminal, mut users_side) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: the two numbers outlive the call; null pointers request neither a name nor other settings.
    let opened =
        unsafe { libc::openpty(&mut terminal, &mut users_side, null, null.cast(), null.cast()) };
    assert_eq!(opened, 0);
    // SAFETY: both were opened just now and are not owned elsewhere.
    let (terminal, users_side) =
        unsafe { (OwnedFd::from_raw_fd(terminal), OwnedFd::from_raw_fd(users_side)) };
    for (what, full) in [
        ("pipe", filled(pipe.into())),
        ("socket", filled(socket.into())),
        ("terminal", filled(users_side)),
    ] {
        let (code, said) = crash_with(full);
        assert_eq!((code, said), (Some(0), goes_on()), "{what}");
    }
    drop((reader, other_end, terminal));

    // If there is room, the line is written; to a file it is appended.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let (code, said) = crash_with(writer.into());
    let mut line = String::new();
    reader.read_to_string(&mut line).unwrap();
    let expected =
        " ERROR SIGSEGV (invalid memory access) in part: GET /. 0 other requests in flight";
    assert!(line.contains(expected) && line.ends_with("-crash\n"), "{line}");
    assert_eq!((code, said), (Some(0), goes_on()));
    let mut file = tempfile::tempfile().unwrap();
    writeln!(file, "before").unwrap();
    crash_with(file.try_clone().unwrap().into());
    writeln!(file, "after").unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert!(lines.len() == 3 && lines[0] == "before" && lines[2] == "after", "{text}");
    assert!(lines[1].contains(expected), "{text}");
}

/// The last output of `crashing_helper`: `ps` shows the same name as before, by the 15 bytes that the
/// kernel keeps.
fn goes_on() -> String {
    let program = std::env::current_exe().unwrap();
    let name = program.file_name().unwrap().to_str().unwrap();
    format!("{} goes on as {}, why=crashed\n", &name[..name.len().min(15)], program.display())
}

/// Runs `crashing_helper` with this standard error; returns its exit code and output.
fn crash_with(stderr: OwnedFd) -> (Option<i32>, String) {
    let mut helper = itself("crashing_helper");
    let folder = tempfile::tempdir().unwrap();
    helper.env(FOLDER, folder.path()).stdout(Stdio::piped()).stderr(Stdio::from(stderr));
    let helper = helper.spawn().unwrap();
    ask(folder.path());
    let output = helper.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Another account may have put anything in place of the file of crashes.
fn a_crash_is_recorded_only_in_a_regular_file() {
    let folder = tempfile::tempdir().unwrap();
    let [file, link, pipe] = ["file", "link", "pipe"].map(|name| {
        let state = folder.path().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        state.join("crashes")
    });
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, &link).unwrap();
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for crashes in [&file, &link, &pipe] {
        let state = crashes.parent().unwrap();
        let mut helper = itself("crashing_helper");
        helper.env(FOLDER, state).stdout(Stdio::null()).stderr(Stdio::null());
        let mut helper = helper.spawn().unwrap();
        ask(state);
        let start = Instant::now();
        // Opening a pipe may block until there is a reader.
        while helper.try_wait().unwrap().is_none() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = helper.kill();
        assert_eq!(helper.wait().unwrap().code(), Some(0), "{}", crashes.display());
    }
    let noted = std::fs::read_to_string(&file).unwrap();
    assert!(noted.ends_with(" part\n") && noted.lines().count() == 1, "{noted}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
}

/// Names the folder of `crashing_helper`, for its socket and its state.
const FOLDER: &str = "FOLDER";

fn socket_in(folder: &Path) -> std::path::PathBuf {
    folder.join("socket")
}

/// Requests the page that crashes from the server in this folder; returns when the connection has ended.
fn ask(folder: &Path) {
    let start = Instant::now();
    let mut client = loop {
        match UnixStream::connect(socket_in(folder)) {
            Ok(client) => break client,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    client.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 500 "), "{response}");
}

/// Crashes while it responds; the restarted program reports that it continues.
fn crashing_helper() {
    if let Some(inherited) = reexec::take_inherited(&[]) {
        let why = inherited.into_iter().find_map(|word| match word {
            reexec::InheritedWord::Text(name, value) if name == "why" => Some(value),
            _ => None,
        });
        let [name, line] = ["comm", "cmdline"]
            .map(|it| std::fs::read_to_string(format!("/proc/self/{it}")).unwrap());
        let line = line.trim_end_matches('\0');
        println!("{} goes on as {line}, why={}", name.trim_end(), why.unwrap());
        return;
    }
    let folder = std::path::PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let address = Address::Unix(socket_in(&folder));
    let mut settings = Settings::default();
    settings.state_folder = Some(folder);
    let crash = async || kill_process(getpid(), Signal::SEGV).unwrap();
    let application = Router::new().route("/", get(crash));
    let server = Server::new(application).settings(settings).host(OnePart);
    server.run(Transport::Http(address)).unwrap();
}

struct OnePart;

impl Host for OnePart {
    fn classify(&self, _: &Uri) -> Part {
        Part::named("part")
    }
}
