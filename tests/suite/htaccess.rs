//! Which URLs `.htaccess` leaves to Apache, which it passes to the site, and which it denies. docs/rewriting.md has
//! the measurements behind it.

use std::fs;

use end_to_end::fixtures::{App, Running, Setup, apache_fcgid, project};
use end_to_end::http_client::{Request, Response};
use end_to_end::program::write_executable;

use crate::cases::{Case, Expect, run_all, same};

/// Files that may be in a document root and must not be served; all contain [`TEXT`].
const PRIVATE: [&str; 31] = [
    ".env",
    ".git/config",
    ".htpasswd",
    "secret.key",
    "Secret.KEY",
    "htaccess",
    "toolshed",
    "toolshed.toml",
    "toolshed.new",
    "toolshed.setup",
    "toolshed.previous",
    "other.toml",
    "backup.toml~",
    "dispatch.fcgi.bak",
    "dispatch.fcgi.1",
    "dispatch.fcgi-old",
    "backup.db.gz",
    "sub/folder/backup.SQLite3.1.xz",
    "toolshed.log.1",
    "other.log.2.gz",
    "page.html.old",
    "data/site.db",
    "data/site.db-journal",
    "data/x.txt",
    "logs/toolshed.log",
    "logs/x.txt",
    "toolshed-home/secret.key",
    "toolshed-home/static/x.css",
    "static/.DS_Store",
    "static/leaked.key",
    "sub/folder/.hidden/x.txt",
];
const PUBLIC: [&str; 7] = [
    "robots.txt",
    "page.html",
    "static/more/x.css",
    "archive.gz",
    "the.db.html",
    "sub/folder/x.txt",
    ".well-known/acme-challenge/token",
];
const TEXT: &str = "the text of the file";

/// Other spellings of `secret.key`.
const DETOURS: [&str; 9] = [
    "//secret.key",
    "/./secret.key",
    "/static/../secret.key",
    "/%73ecret.key",
    "/secret%2Ekey",
    "/secret.key/",
    "/secret.key/x",
    "/secret.key?x",
    "/secret",
];

#[test]
fn private_files_stay_private_at_the_root() {
    private_files_stay_private("");
}

#[test]
fn private_files_stay_private_in_a_folder() {
    private_files_stay_private("/project");
}

fn private_files_stay_private(base: &'static str) {
    // With MultiViews, which hosts may enable, Apache finds files by a part of their names.
    let setup = Setup::new(App::TestApp, base)
        .with_server_lines("<Location />\nOptions +MultiViews\n</Location>");
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    let site = running.folder().join(format!("www{base}"));
    for name in PRIVATE.iter().chain(&PUBLIC) {
        let path = site.join(name);
        fs::create_dir_all(path.parent().expect("it is below the site")).expect("a folder");
        fs::write(path, TEXT).expect("a file");
    }
    // The program itself may be there: the launcher looks next to itself first.
    let program = running.folder().join("start-app");
    let script = format!("#!/bin/sh\n# {TEXT}\nexec {}\n", program.display());
    fs::remove_file(site.join("toolshed")).expect("it was there");
    write_executable(&site.join("toolshed"), script.as_bytes()).expect("a program");
    let mut cases = Vec::new();
    for name in PUBLIC {
        cases.push(Case::ask(name, Request::get(format!("/{name}")), Expect::Text(TEXT)));
    }
    let asked = PRIVATE.iter().map(|name| format!("/{name}"));
    for target in asked.chain(DETOURS.iter().map(|&target| target.to_owned())) {
        let name: &'static str = Box::leak(target.clone().into_boxed_str());
        cases.push(Case::ask(name, Request::get(target), Expect::Response(is_refused)));
    }
    cases.push(Case::ask(
        "folders are not listed",
        Request::get("/sub/folder/"),
        Expect::Response(is_refused),
    ));
    run_all(running, cases);
}

/// The second form, without rewriting: no file outside of `static/` is served.
#[test]
fn with_fcgid_wrapper_virtual_only_static_files_are_served() {
    let base = "/project";
    let running =
        apache_fcgid::start_virtual(&Setup::new(App::TestApp, base)).expect("Apache starts");
    let site = running.folder().join(format!("www{base}"));
    let outside = |name: &&&str| !name.starts_with("static/");
    let names: Vec<_> = PRIVATE.iter().chain(&PUBLIC).filter(outside).collect();
    for name in &names {
        let path = site.join(name);
        fs::create_dir_all(path.parent().expect("it is below the site")).expect("a folder");
        fs::write(path, TEXT).expect("a file");
    }
    let asked = names.iter().map(|name| format!("/{name}"));
    let mut cases: Vec<_> = asked
        .chain(DETOURS.iter().map(|&target| target.to_owned()))
        .map(|target| {
            let name: &'static str = Box::leak(target.clone().into_boxed_str());
            Case::ask(name, Request::get(target), Expect::Response(is_refused))
        })
        .collect();
    cases.push(Case::ask(
        "static/ is Apache's",
        Request::get("/static/from-the-file.txt"),
        Expect::Text("a static file\n"),
    ));
    run_all(running, cases);
}

/// The pages' files are embedded in the program.
#[test]
fn the_site_needs_no_static_folder() {
    let base = "/project";
    for start in [apache_fcgid::start, apache_fcgid::start_virtual, apache_fcgid::start_cgi] {
        let running = start(&Setup::new(App::Toolshed, base)).expect("Apache starts");
        fs::remove_dir_all(running.folder().join(format!("www{base}/static")))
            .expect("it was there");
        let ask = |path: &str| {
            let request = Request::get(path).below(base);
            request.send(running.address).expect("a response")
        };
        let page = ask("/").text();
        let files: Vec<_> = page
            .split("=\"/project/static/")
            .skip(1)
            .filter_map(|rest| rest.split(['"', '#']).next())
            .collect();
        assert!(files.len() >= 3, "{page}");
        for file in files {
            let response = ask(&format!("/static/{file}"));
            assert_eq!(response.status, 200, "{file}");
            let name = file.split('?').next().expect("a name");
            let content = fs::read_to_string(project().join("static").join(name)).expect("a file");
            assert_eq!(response.text(), content, "{file}");
            // These are the program's own responses.
            let caching = Some("public, max-age=31536000, immutable");
            assert_eq!(response.header("cache-control"), caching, "{file}");
            assert_eq!(
                response.header("cross-origin-resource-policy"),
                Some("same-origin"),
                "{file}"
            );
        }
    }
}

fn is_refused(_: &Running, response: &Response) -> Result<(), String> {
    same("it leaks", response.text().contains(TEXT), false)?;
    if matches!(response.status, 403 | 404) {
        return Ok(());
    }
    Err(format!("status {} is not a refusal", response.status))
}

#[test]
fn urls_with_the_launchers_name_redirect() {
    let running =
        apache_fcgid::start(&Setup::new(App::TestApp, "/project")).expect("Apache starts");
    let ask = |target: &str, path| Case::ask(path, Request::get(target), Expect::Redirect(path));
    run_all(
        running,
        vec![
            ask("/dispatch.fcgi", "/"),
            ask("/dispatch.fcgi/echo/a?b=%20c", "/echo/a?b=%20c"),
            ask("/dispatch.fcgi//evil.test/x", "/evil.test/x"),
        ],
    );
}

#[test]
fn encoded_slashes_arrive_if_apache_allows_them() {
    let setup = Setup::new(App::TestApp, "").with_server_lines("AllowEncodedSlashes NoDecode");
    let running = apache_fcgid::start(&setup).expect("Apache starts");
    run_all(
        running,
        vec![
            Case::ask("%2F", Request::get("/echo/a%2Fb"), Expect::Echo),
            Case::ask("%2f%2F", Request::get("/echo/a%2f%2Fb?%2F"), Expect::Echo),
        ],
    );
}
