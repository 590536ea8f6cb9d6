//! Every command whose output cannot be written: a full disk, a closed pipe, a closed descriptor. The result is a
//! failure with a message, never a panic.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::program::Installation;

/// Commands that exit on their own and print a result, with their input.
const COMMANDS: &[(&[&str], &str)] = &[
    (&["--help"], ""),
    (&["--version"], ""),
    (&["serve", "--help"], ""),
    (&["tools"], ""),
    (&["settings"], ""),
    (&["settings", "idle_timeout"], ""),
    (&["check"], ""),
    (&["check", "--upgrade"], ""),
    (&["completions", "bash"], ""),
    (&["hash-password"], "a long password"),
    (&["set-password"], "a long password"),
    (&["install", "newer"], ""),
    (&["request", "GET", "/healthz"], ""),
    (&["request", "GET", "/"], ""),
    (&["backup", "copy.db"], ""),
    (&["restore", "other.db"], ""),
    (&["store"], ""),
    (&["store", "check"], ""),
    (&["blobs"], ""),
    (&["blobs", "copy", "blobs"], ""),
];

/// Commands that fail, with their exit codes.
const FAILING: &[(&[&str], i32)] = &[
    (&["sevre"], 2),
    (&["serve", "--listen", "localhost"], 2),
    (&["fastcgi", "--listen", "unix:/nowhere/at/all/socket"], 1),
    (&["settings", "nothing"], 2),
    (&["hash-password"], 2),
    (&["install", "no-such-file"], 1),
    (&["request", "GET", "/nowhere"], 4),
    (&["backup", "nowhere/copy.db"], 1),
    (&["restore", "nowhere/copy.db"], 1),
    (&["blobs", "copy", "nowhere", "blobs"], 1),
];

/// An installation in which each of them succeeds, or fails for its own reason.
fn installation() -> Installation {
    let installation = Installation::new();
    let mut newer = std::fs::read(installation.program()).unwrap();
    newer.extend_from_slice(b"newer");
    std::fs::write(installation.path().join("newer"), newer).unwrap();
    std::fs::create_dir(installation.path().join("data")).unwrap();
    // No blobs.
    std::fs::create_dir_all(installation.path().join("data/blobs/stored")).unwrap();
    // Empty stores.
    for store in ["data/toolshed.db", "other.db"] {
        let store = rusqlite::Connection::open(installation.path().join(store)).unwrap();
        store.pragma_update(None, "application_id", 0x7368_6564).unwrap();
    }
    installation
}

/// Runs a command; returns its exit code and what it wrote to those of its outputs that are pipes.
fn run(mut command: Command, input: &str) -> (Option<i32>, String, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

fn without_reader() -> Stdio {
    std::io::pipe().unwrap().1.into()
}

/// Runs the same command with a descriptor closed before the program starts.
fn closed(installation: &Installation, arguments: &[&str], redirection: &str) -> Command {
    let mut command = installation.command(&[], &[]);
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("exec \"$0\" \"$@\" {redirection}"));
    shell.arg(command.get_program()).args(arguments).env_clear();
    shell.current_dir(command.current_dir(installation.path()).get_current_dir().unwrap());
    shell
}

#[test]
fn an_unwritable_result_fails_with_one_message() {
    let installation = installation();
    for (arguments, input) in COMMANDS {
        let mut command = installation.command(arguments, &[]);
        command.stdout(full()).stderr(Stdio::piped());
        let (code, _, error) = run(command, input);
        assert_eq!(code, Some(1), "{arguments:?}: {error}");
        assert!(
            error.contains("toolshed: ") && error.contains("No space left"),
            "{arguments:?}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{arguments:?}: {error}");
    }
}

#[test]
fn closed_pipes_and_outputs_are_not_failures() {
    let installation = installation();
    for (arguments, input) in COMMANDS {
        let mut command = installation.command(arguments, &[]);
        command.stdout(without_reader()).stderr(Stdio::piped());
        let (code, _, error) = run(command, input);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}");
        let mut command = closed(&installation, arguments, ">&-");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let (code, _, error) = run(command, input);
        assert_eq!((code, error.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn without_standard_error_result_and_exit_code_are_the_same() {
    let installation = installation();
    for (arguments, input) in COMMANDS {
        for (what, mut command) in with_each_bad_error(&installation, arguments) {
            command.stdout(Stdio::piped());
            let (code, result, _) = run(command, input);
            assert_eq!(code, Some(0), "{arguments:?} with {what}");
            assert!(!result.is_empty(), "{arguments:?} with {what}");
        }
    }
    for (arguments, expected) in FAILING {
        for (what, mut command) in with_each_bad_error(&installation, arguments) {
            command.stdout(Stdio::piped());
            let (code, _, _) = run(command, "");
            assert_eq!(code, Some(*expected), "{arguments:?} with {what}");
        }
    }
}

fn with_each_bad_error(
    installation: &Installation,
    arguments: &[&str],
) -> [(&'static str, Command); 3] {
    let with = |error: Stdio| {
        let mut command = installation.command(arguments, &[]);
        command.stderr(error);
        command
    };
    [
        ("a full disk", with(full())),
        ("a reader that has gone", with(without_reader())),
        ("a closed descriptor", closed(installation, arguments, "2>&-")),
    ]
}
