//! `request --as` describes a request as the web server does that it names: what an application sees is the same.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use end_to_end::fixtures::{
    App, Running, Setup, apache_fcgid, apache_proxy_fcgi, caddy, haproxy, lighttpd, nginx,
};
use end_to_end::http_client::{Request, Upload};
use end_to_end::program::find;

const BODY: &[u8] = b"hello";

const HEADERS: [(&str, &str); 9] = [
    ("Host", "tools.test"),
    ("Accept", "text/html"),
    ("Authorization", "Bearer eDp5"),
    ("Cookie", "a=b"),
    ("Proxy", "p"),
    ("User-Agent", "a browser"),
    ("X_Under", "u"),
    ("X-Two", "1"),
    ("X-Two", "2"),
];

/// What differs by machine, by version of the web server, and by where the launcher is.
const NOT_COMPARED: [&str; 9] = [
    "HOME=",
    "OLDPWD=",
    "OWN_APP_",
    "PATH=",
    "PWD=",
    "REDIRECT_HOME=",
    "REMOTE_PORT=",
    "SERVER_PORT=",
    "SERVER_SOFTWARE=",
];

fn is_as_recorded(front: &str, base: &'static str, start: impl Fn(&Setup) -> io::Result<Running>) {
    let running =
        start(&Setup::new(App::OwnApp, base)).unwrap_or_else(|error| panic!("{front}: {error}"));
    let body = running.folder().join("body");
    fs::write(&body, BODY).expect("it is written");
    for path in ["/what-it-sees/b%20c/~x?q=1%202&y", "/what-it-sees/x"] {
        for has_body in [false, true] {
            let mut request = match has_body {
                false => Request::get(path),
                true => Request::post(path, Upload::Text(BODY.to_vec())),
            };
            let mut own_app = Command::new(find("own-app"));
            own_app.args(["request", if has_body { "POST" } else { "GET" }, path, "--as", front]);
            if !base.is_empty() {
                own_app.args(["--base", base]);
            }
            if has_body {
                request = request.header("Content-Type", "text/plain");
                own_app.args(["-H", "Content-Type: text/plain", "--body"]).arg(&body);
            }
            // The client of these tests sends Host and this one by itself.
            own_app.args(["-H", "Connection: close"]);
            for (name, value) in HEADERS {
                own_app.arg("-H").arg(format!("{name}: {value}"));
                if name != "Host" {
                    request = request.header(name, value);
                }
            }
            let response = request.below(base).send(running.address).expect("a response");
            assert_eq!(response.status, 200, "{front}: {}", response.text());
            let said = own_app.output().expect("it runs");
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let (_, said) = said.split_once("\n\n").unwrap_or_else(|| panic!("{front}: {said}"));
            let seen = facts(&response.text(), &running);
            let said = facts(said, &running);
            let missing: Vec<_> = seen.difference(&said).collect();
            let added: Vec<_> = said.difference(&seen).collect();
            assert!(
                missing.is_empty() && added.is_empty(),
                "{front} {path}: {missing:#?} are missing, {added:#?} are new"
            );
        }
    }
    running.stop().expect("it stops");
}

/// The lines that are compared.
fn facts(text: &str, running: &Running) -> BTreeSet<String> {
    // Caddy has the folder in which it was started, and the others what their configurations say.
    let here = std::env::current_dir().expect("there is one");
    let roots = [&*running.folder().join("www"), &here, Path::new("/srv/toolshed")]
        .map(|root| root.to_string_lossy().into_owned());
    let is_compared = |line: &&str| !NOT_COMPARED.iter().any(|start| line.starts_with(start));
    let line = |line: &str| {
        let line = line.replace("fcgi://toolshed", "fcgi://site");
        roots.iter().fold(line, |line, root| line.replace(root, "/home/owner/public_html"))
    };
    text.lines().filter(is_compared).map(line).collect()
}

#[test]
fn mod_fcgid() {
    is_as_recorded("mod_fcgid", "", apache_fcgid::start);
    is_as_recorded("mod_fcgid", "/project", apache_fcgid::start);
}

#[test]
fn mod_cgi() {
    is_as_recorded("mod_cgi", "", apache_fcgid::start_cgi);
    is_as_recorded("mod_cgi", "/project", apache_fcgid::start_cgi);
}

#[test]
fn mod_proxy_fcgi() {
    is_as_recorded("mod_proxy_fcgi", "", |setup| apache_proxy_fcgi::start(setup, false));
}

#[test]
fn nginx_as_documented() {
    is_as_recorded("nginx", "", |setup| nginx::start(setup, true));
}

#[test]
fn lighttpd_as_documented() {
    is_as_recorded("lighttpd", "", lighttpd::start);
    is_as_recorded("lighttpd", "/project", lighttpd::start);
}

#[test]
fn caddy_as_documented() {
    is_as_recorded("caddy", "", caddy::start);
}

#[test]
fn haproxy_as_documented() {
    is_as_recorded("haproxy", "", haproxy::start);
}
