//! What the program says at a terminal, to the letter: help, slips, a machine that refuses.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

use std::net::TcpListener;
use std::process::{Command, Stdio};

/// Runs the program; returns its exit code and what it wrote, each line of standard error marked.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_toolshed"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let marked: String = stderr.lines().map(|line| format!("! {line}\n")).collect();
    (output.status.code().unwrap(), stdout + &marked)
}

#[test]
fn help_fits_a_screen() {
    let (code, text) = run(&["--help"], &[]);
    assert_eq!(code, 0);
    assert_eq!(
        text,
        "A tools site, and a server for it, for the hosting most people can afford

Usage: toolshed [COMMAND]

Commands:
  serve    Serve the site over HTTP: to try it, to develop, behind a reverse proxy
  fastcgi  Serve the site over FastCGI on a socket of its own: behind nginx, caddy, mod_proxy_fcgi
  help     Print this message or the help of the given subcommand(s)

Options:
  -h, --help     Print help
  -V, --version  Print version

Without a command: serves FastCGI when a web server started the program, else
the same as `toolshed serve`.
"
    );
    for command in ["serve", "fastcgi"] {
        let (code, text) = run(&[command, "--help"], &[]);
        assert_eq!(code, 0, "{command}");
        assert!(text.lines().count() <= 24, "{text}");
    }
}

#[test]
fn slips_are_named() {
    let cases: [(&[&str], &str); 4] = [
        (&["sevre"], "unrecognized subcommand 'sevre'"),
        (&["fastcgi"], "--listen <ADDRESS>"),
        (&["fastcgi", "--listen", "8080"], "invalid value '8080' for '--listen <ADDRESS>'"),
        (&["serve", "--listen", "localhost"], "invalid value 'localhost' for '--listen <ADDRESS>'"),
    ];
    for (arguments, expected) in cases {
        let (code, text) = run(arguments, &[]);
        assert_eq!(code, 2, "{arguments:?}: {text}");
        assert!(text.starts_with("! error: ") && text.contains(expected), "{arguments:?}: {text}");
    }
}

#[test]
fn a_taken_address_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = run(&["serve", "--listen", &address], &[]);
    assert_eq!(code, 1);
    assert_eq!(
        text,
        format!(
            "! toolshed: Cannot listen on tcp:{address}: another process listens there already. \
             End that process or choose another address.\n"
        )
    );
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let (code, text) = run(&["fastcgi", "--listen", "unix:/nowhere/at/all/socket"], &[]);
    assert_eq!(code, 1);
    assert!(
        text.starts_with("! toolshed: Cannot listen on unix:/nowhere/at/all/socket: "),
        "{text}"
    );
}

#[test]
fn a_bad_list_of_web_servers_is_named() {
    let listen = ["fastcgi", "--listen", "tcp:127.0.0.1:0"];
    let (code, text) = run(&listen, &[("FCGI_WEB_SERVER_ADDRS", "localhost")]);
    assert_eq!(code, 1);
    assert!(text.contains("FCGI_WEB_SERVER_ADDRS is \"localhost\", which is not a list"), "{text}");
}

#[test]
fn run_by_hand_the_launcher_explains_itself() {
    let (code, text) = run(&[], &[("TOOLSHED_LAUNCHER", "/home/me/public_html/dispatch.fcgi")]);
    assert_eq!(code, 0);
    assert!(text.contains("dispatch.fcgi is started by the web server"), "{text}");
}

#[test]
fn as_plain_cgi_it_answers_with_what_to_change() {
    let (code, text) = run(&[], &[("GATEWAY_INTERFACE", "CGI/1.1")]);
    assert_eq!(code, 0);
    assert!(text.starts_with("Status: 501 Not Implemented\r\nContent-Type: text/plain"), "{text}");
}
