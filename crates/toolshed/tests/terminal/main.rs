//! The exact output of the program at a terminal: help, mistakes, failures of the machine.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

mod blobs;
mod check;
mod culprits;
mod files;
mod https;
mod log;
mod login;
mod output;
mod program;
mod quarantine;
mod starts;
mod store;
mod transports;
mod web_servers;
mod wrong_settings;

use std::net::TcpListener;
use std::process::Stdio;

use program::Installation;

/// Runs the program in an otherwise empty installation; returns its exit code and its output, with each
/// line of standard error marked.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    Installation::new().run(arguments, environment)
}

#[test]
fn a_version_is_installed_only_when_it_passes() {
    let installation = Installation::new();
    let broken = "#!/bin/sh\nexit 3\n";
    installation.write("broken", broken);
    let before = std::fs::read(installation.program()).unwrap();
    let (code, said) = installation.run(&["install", "broken"], &[]);
    assert_eq!(code, 1, "{said}");
    let why = "! toolshed: broken was not installed: its check ended with exit code 3";
    assert!(said.contains(why), "{said}");
    assert!(said.contains("! Hint: The previous version continues unchanged."), "{said}");
    assert!(!installation.path().join("toolshed.new").exists());
    assert_eq!(std::fs::read(installation.program()).unwrap(), before);

    // This version with bytes appended is a different file, and passes.
    let mut newer = before.clone();
    newer.extend_from_slice(b"newer");
    std::fs::write(installation.path().join("newer"), &newer).unwrap();
    let (code, said) = installation.run(&["install", "newer"], &[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.starts_with("Installed HOME/toolshed;"), "{said}");
    assert_eq!(std::fs::read(installation.program()).unwrap(), newer);
    assert_eq!(std::fs::read(installation.path().join("toolshed.previous")).unwrap(), before);
    assert!(!installation.path().join("toolshed.new").exists());

    let (code, said) = installation.run(&["install", "toolshed"], &[]);
    assert_eq!(code, 2, "{said}");
    let (code, said) = installation.run(&["install", "no-such-file"], &[]);
    assert_eq!(code, 1, "{said}");

    // With a wrong configuration, no version passes.
    installation.write("toolshed.toml", "publik = 1\n");
    let (code, said) = installation.run(&["install", "newer"], &[]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("did you mean `public`?"), "{said}");
}

#[test]
fn no_file_is_forgotten() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/terminal");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.strip_suffix(".rs").expect("only files in Rust");
        let line = format!("\nmod {module};\n");
        assert!(module == "main" || include_str!("main.rs").contains(&line), "{name}");
    }
}

const HELP: &[(&[&str], &str)] = &[
    (
        &[],
        "A tools site, and a server for it, for the hosting most people can afford

Usage: toolshed [OPTIONS] [COMMAND]

Commands:
  serve          Serve over HTTP: to try it, develop, or behind a proxy
  watch          Serve, and build the program again when its sources change
  fastcgi        Serve over FastCGI: for nginx, caddy, mod_proxy_fcgi
  request        Print the response to one request, without a server
  check          Report what is installed and what would fail; change nothing
  install        Replace this version by a new one that passes its check
  launcher       Write dispatch.fcgi and .htaccess, by which Apache starts it
  settings       List the settings and where each is set, or explain one
  tools          List the tools of the site and who may use them
  set-password   Set the owner's password in toolshed.toml
  hash-password  Print the line that sets the owner's password in toolshed.toml
  backup         Back up the store: all rows
  restore        Put a backup in the place of the store
  store          Show where the store is, how large, and what is in it
  blobs          Show where the site's blobs are, how many, and how large
  completions    Print completions for a shell

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help
  -V, --version        Print version

Without a command: serves the web server that started it; otherwise like serve.
",
    ),
    (
        &["serve"],
        "Serve over HTTP: to try it, develop, or behind a proxy

Usage: toolshed serve [OPTIONS]

Options:
      --listen <ADDRESS>  HOST:PORT or unix:PATH [default: 127.0.0.1:8080]
      --log <FILE>        Log to this file instead of standard error
      --workers <N>       Processes: N, MIN-MAX by load, or auto [default: 1]
      --like <HOST>       With the rules of a host: mod_fcgid, cgi, cloudlinux
      --rule <NAME=N>     Another value of a rule: FcgidIOTimeout=300
      --config <FILE>     Read the settings from this file
  -h, --help              Print help

Ctrl-C or SIGTERM stops it once the requests in flight are complete.
",
    ),
    (
        &["watch"],
        "Serve, and build the program again when its sources change

Usage: toolshed watch [OPTIONS] [-- <ARGUMENTS>...]

Arguments:
  [ARGUMENTS]...  For `cargo build`, after --: such as --features x

Options:
      --listen <ADDRESS>  HOST:PORT or unix:PATH [default: 127.0.0.1:8080]
      --like <HOST>       With the rules of a host: mod_fcgid, cgi, cloudlinux
      --rule <NAME=N>     Another value of a rule: FcgidIOTimeout=300
      --config <FILE>     Read the settings from this file
  -h, --help              Print help

In the folder of a cargo project: cargo run -- watch
The new version takes over without losing a request; if it does not build,
or does not pass its check, the running one continues.
",
    ),
    (
        &["fastcgi"],
        "Serve over FastCGI: for nginx, caddy, mod_proxy_fcgi

Usage: toolshed fastcgi [OPTIONS]

Options:
      --listen <ADDRESS>  unix:PATH (for this account only) or HOST:PORT
      --log <FILE>        Log to this file instead of standard error
      --workers <N>       Processes: N, MIN-MAX by load, or auto [default: 1]
      --config <FILE>     Read the settings from this file
  -h, --help              Print help

Wrong settings do not stop it: visitors get a 503, the log has the cause.
Ctrl-C or SIGTERM stops it once the requests in flight are complete.
",
    ),
    (
        &["request"],
        "Print the response to one request, without a server

Usage: toolshed request [OPTIONS] <METHOD> <PATH>

Arguments:
  <METHOD>  GET, POST, …
  <PATH>    Below the site's address, with its query: /hello?name=Ann

Options:
  -H, --header <NAME: VALUE>  Send this header; may be given several times
      --body <FILE>           Send this file, or standard input (-)
      --as <SERVER>           As it comes from mod_fcgid, mod_cgi, nginx, …
      --base <PATH>           The folder that the site is in, such as /project
      --config <FILE>         Read the settings from this file
  -h, --help                  Print help

What would be logged goes to standard error.
Exit codes: 0 success, 4 a status of 4xx, 5 a status of 5xx.
Example: toolshed request GET /
",
    ),
    (
        &["tools"],
        "List the tools of the site and who may use them

Usage: toolshed tools [OPTIONS]

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help
",
    ),
    (
        &["check"],
        "Report what is installed and what would fail; change nothing

Usage: toolshed check [OPTIONS] [FOLDER]

Arguments:
  [FOLDER]  The site's folder, the one with dispatch.fcgi in it

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Exit codes: 0 no problems, 1 something would fail, 2 a setting is wrong.
",
    ),
    (
        &["install"],
        "Replace this version by a new one that passes its check

Usage: toolshed install [OPTIONS] <FILE>

Arguments:
  <FILE>  The new program

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

The previous version is kept as toolshed.previous. Running processes upgrade
by themselves, without losing a request (docs/reloading.md).
",
    ),
    (
        &["launcher"],
        "Write dispatch.fcgi and .htaccess, by which Apache starts it

Usage: toolshed launcher [OPTIONS] <FOLDER>

Arguments:
  <FOLDER>  The site's folder: the document root, or a folder in it

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

What is there already is not overwritten. Other web servers: docs/deploying.md.
",
    ),
    (
        &["settings"],
        "List the settings and where each is set, or explain one

Usage: toolshed settings [OPTIONS] [NAME]

Arguments:
  [NAME]  The setting to explain

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Set them in toolshed.toml, or as TOOLSHED_SETTING in the environment.
",
    ),
    (
        &["set-password"],
        "Set the owner's password in toolshed.toml

Usage: toolshed set-password [OPTIONS]

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Asks for the password, or reads it from standard input:
printf %s 'my long password' | toolshed set-password
The rest of the file stays unchanged. All sessions end.
",
    ),
    (
        &["hash-password"],
        "Print the line that sets the owner's password in toolshed.toml

Usage: toolshed hash-password [OPTIONS]

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Asks for the password, or reads it from standard input:
printf %s 'my long password' | toolshed hash-password
",
    ),
    (
        &["backup"],
        "Back up the store: all rows

Usage: toolshed backup [OPTIONS] <FILE>

Arguments:
  <FILE>  Where to write it; replaced atomically

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Works while the site is in use. The copy may contain secrets; its mode is 600.
Restore it with toolshed restore. Files and blobs are not in it.
",
    ),
    (
        &["restore"],
        "Put a backup in the place of the store

Usage: toolshed restore [OPTIONS] <FILE>

Arguments:
  <FILE>  A file made by toolshed backup; it stays where it is

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Works while the site is in use; running processes notice. What was there is kept
as data/toolshed.db-replaced until the next time.
",
    ),
    (
        &["store"],
        "Show where the store is, how large, and what is in it

Usage: toolshed store [OPTIONS] [COMMAND]

Commands:
  check  Read all of the store and report damage
  move   Move the store to a database of PostgreSQL, or back into a file

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Works while the site is in use.
",
    ),
    (
        &["store", "check"],
        "Read all of the store and report damage

Usage: toolshed store check [OPTIONS]

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help
",
    ),
    (
        &["store", "move"],
        "Move the store to a database of PostgreSQL, or back into a file

Usage: toolshed store move [OPTIONS] <[FROM] TO>...

Arguments:
  <[FROM] TO>...  From where, and to where there is nothing yet

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

A place is the path of a file or a postgres:// URL; without FROM, the configured
one is moved. Meanwhile the site can read and not write; afterwards, set
database (docs/storing.md). If it is interrupted, run it again.
",
    ),
    (
        &["blobs"],
        "Show where the site's blobs are, how many, and how large

Usage: toolshed blobs [OPTIONS] [COMMAND]

Commands:
  copy  Copy all blobs to another place: as a backup, or to move the site

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

Blobs are the large values that tools keep, such as uploads.
",
    ),
    (
        &["blobs", "copy"],
        "Copy all blobs to another place: as a backup, or to move the site

Usage: toolshed blobs copy [OPTIONS] <[FROM] TO>...

Arguments:
  <[FROM] TO>...  From where, and to where

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

A place is a folder, or s3 for the bucket that is set by s3_endpoint and others;
without FROM, the site's own blobs are copied. Works while the site is in use.
What is there already is passed over: run it again if it was interrupted, and
for what was put since (docs/storing.md).
",
    ),
    (
        &["completions"],
        "Print completions for a shell

Usage: toolshed completions [OPTIONS] <SHELL>

Arguments:
  <SHELL>  The shell [possible values: bash, elvish, fish, powershell, zsh]

Options:
      --config <FILE>  Read the settings from this file
  -h, --help           Print help

For bash, in ~/.bashrc: source <(toolshed completions bash)
",
    ),
];

#[test]
fn help_is_exact_and_fits_a_screen() {
    for (arguments, expected) in HELP {
        let (code, text) = run(&[*arguments, &["--help"]].concat(), &[]);
        assert_eq!(text, *expected, "{arguments:?}");
        assert_eq!(code, 0, "{arguments:?}");
        assert!(text.lines().count() < 30, "{arguments:?}: {}", text.lines().count());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{arguments:?}: {line}");
        }
    }
}

#[test]
fn every_command_has_its_help_tested() {
    let (_, commands) = HELP[0].1.split_once("Commands:\n").unwrap();
    let (commands, _) = commands.split_once("\n\n").unwrap();
    for line in commands.lines() {
        let command = line.split_whitespace().next().unwrap();
        let is_tested = HELP.iter().any(|(arguments, _)| *arguments == [command]);
        assert!(is_tested || command == "help", "{command}");
    }
}

#[test]
fn mistakes_are_reported() {
    let cases: [(&[&str], &str); 4] = [
        (&["sevre"], "! error: unrecognized subcommand 'sevre'"),
        (&["serve", "--lisen", "x"], "a similar argument exists: '--listen'"),
        (&["fastcgi", "--listen", "8080"], "! toolshed: --listen is \"8080\"; write an address"),
        (&["serve", "--listen", "localhost"], "! toolshed: --listen is \"localhost\"; write"),
    ];
    for (arguments, expected) in cases {
        let (code, text) = run(arguments, &[]);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.starts_with("! ") && text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn an_address_in_use_is_reported() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let expected = format!(
        "! toolshed: Cannot listen on tcp:{address}: another process listens there already. \
         End that process or choose another address.\n"
    );
    assert_eq!(run(&["serve", "--listen", &address], &[]), (1, expected.clone()));
    // The terminal shows it even if messages go to a file.
    let installation = Installation::new();
    let shown = installation.run(&["serve", "--listen", &address, "--log", "my.log"], &[]);
    assert_eq!(shown, (1, expected));
    assert!(installation.read("my.log").contains("another process listens there already"));
    // Only once if they cannot be written to it.
    installation.write("file", "");
    let arguments = ["serve", "--listen", &address, "--log", "file/my.log"];
    let (code, text) = installation.run(&arguments, &[]);
    assert_eq!(code, 1);
    assert!(text.contains("The log file file/my.log cannot be written: "), "{text}");
    assert_eq!(text.matches("Cannot listen").count(), 1, "{text}");
}

#[test]
fn a_missing_folder_is_reported() {
    let (code, text) = run(&["fastcgi", "--listen", "unix:/nowhere/at/all/socket"], &[]);
    assert_eq!(code, 1);
    assert!(
        text.starts_with("! toolshed: Cannot listen on unix:/nowhere/at/all/socket: "),
        "{text}"
    );
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let installation = Installation::new();
    for arguments in
        [&["tools"][..], &["settings"], &["check"], &["completions", "bash"], &["--help"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = installation.command(arguments, &[]);
        let output = command.stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

#[test]
fn tools_are_listed_with_their_access() {
    let (code, text) = run(&["tools"], &[]);
    assert_eq!(code, 0, "{text}");
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut lines = text.lines().map(cells);
    assert_eq!(lines.next().unwrap(), ["NAME", "FOR", "PATH", "TITLE"]);
    let checksum =
        |text: &str| text.lines().map(cells).find(|cells| cells[0] == "checksum").unwrap();
    assert_eq!(checksum(&text), ["checksum", "owner", "/tools/checksum", "Checksums"]);
    let (_, text) = run(&["tools"], &[("TOOLSHED_PUBLIC", "all")]);
    assert_eq!(checksum(&text)[1], "everybody");
}

#[test]
fn settings_are_listed_with_their_source() {
    let installation = Installation::new();
    installation.write("toolshed.toml", "\nidle_timeout = 90\npublic = \"all\"");
    let (code, text) = installation.run(&["settings"], &[("TOOLSHED_PUBLIC", "checksum")]);
    assert_eq!(code, 0, "{text}");
    for line in [
        "public                     \"checksum\"  (TOOLSHED_PUBLIC)\n",
        "\nlog                        -\n",
        "\nidle_timeout               90  (toolshed.toml, line 2)\n",
        "\nsend_timeout               \"1 min\"\n",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert_eq!(text.lines().filter(|line| line.trim().is_empty()).count(), 0, "one line a setting");
}

#[test]
fn a_setting_is_explained() {
    let expected = "idle_timeout (TOOLSHED_IDLE_TIMEOUT)

How long a keep-alive connection may be idle.

Longer than web servers keep theirs (nginx 60 s), so that they close first and
no request meets a closed socket.

Default: \"5 min\".
Write a time such as \"5 min\" or \"90 s\", from 1 s to 24 h.
";
    for name in ["idle_timeout", "TOOLSHED_IDLE_TIMEOUT"] {
        assert_eq!(run(&["settings", name], &[]), (0, expected.to_owned()));
    }
    let expected = "! toolshed: Unknown setting `idle-timout`.
! Hint: toolshed settings idle_timeout
";
    assert_eq!(run(&["settings", "idle-timout"], &[]), (2, expected.to_owned()));
}

#[test]
fn every_shell_gets_its_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let (code, text) = run(&["completions", shell], &[]);
        assert_eq!(code, 0, "{shell}");
        assert!(text.contains("toolshed") && text.contains("completions"), "{shell}");
    }
}

#[test]
fn as_cgi_a_query_never_becomes_arguments() {
    let (code, text) = run(&["settings"], &[("GATEWAY_INTERFACE", "CGI/1.1")]);
    assert_eq!(code, 0, "{text}");
    assert!(text.starts_with("Status: "), "{text}");
}
