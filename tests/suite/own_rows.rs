//! The rows of an application of somebody's own: counted by several processes, over upgrades, in a file and in a database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use end_to_end::fixtures::{App, Folder, Setup, apache_fcgid};
use end_to_end::http_client::Request;
use end_to_end::program::touch;
use postgres_fixture::Server;

use crate::own_app::{run, setup, text};

/// What `own-app request GET /visit/home` prints.
fn visit(folder: &Folder, variables: &[(&str, &str)]) -> u64 {
    let output = run(folder, &["request", "GET", "/visit/home"], variables);
    assert!(output.status.success(), "{}", text(&output));
    let response = String::from_utf8(output.stdout).expect("text");
    let body = response.lines().last().expect("a body");
    body.parse().expect("a number")
}

/// Runs a command that succeeds.
fn done(folder: &Folder, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let output = run(folder, arguments, variables);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output));
    text(&output)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[test]
fn no_visit_is_lost_by_a_touch_or_counted_twice() {
    const VISITS: u64 = 40;
    let running = apache_fcgid::start(&setup()).expect("Apache starts");
    let clients = 4;
    std::thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                for _ in 0..VISITS / clients {
                    let response = Request::get("/visit/page").send(running.address);
                    let response = response.expect("a response");
                    assert_eq!(response.status, 200, "{}", running.program_logs());
                }
            });
        }
        touch(&running.folder().join("www/dispatch.fcgi")).expect("it is touched");
    });
    let last = Request::get("/visit/page").send(running.address).expect("a response");
    assert_eq!(last.text(), format!("{}\n", VISITS + 1));
}

#[test]
fn they_are_backed_up_and_restored() {
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    let early = run(&folder, &["backup", "copy"], &[]);
    assert!(text(&early).contains("Nothing to back up yet: "), "{}", text(&early));
    assert_eq!((visit(&folder, &[]), visit(&folder, &[])), (1, 2));
    let store = folder.path().join("data/own-app.db");
    assert_eq!(mode(&store), 0o600);
    let shown = done(&folder, &["store"], &[]);
    assert!(shown.contains("visits  1 of 1      visits  1\n"), "{shown}");
    assert!(done(&folder, &["store", "check"], &[]).contains("is intact"));

    let said = done(&folder, &["backup", "copy"], &[]);
    assert!(said.starts_with("Backed up ") && said.ends_with(" to copy.\n"), "{said}");
    let own = run(&folder, &["backup", store.to_str().expect("UTF-8")], &[]);
    assert!(text(&own).contains("belongs to the site; choose another name"), "{}", text(&own));
    assert_eq!(visit(&folder, &[]), 3);
    let said = done(&folder, &["restore", "copy"], &[]);
    assert!(said.contains("To undo this: own-app restore "), "{said}");
    assert_eq!(visit(&folder, &[]), 3, "of the backup two, and this one");

    fs::write(&store, "no database, but a text of some length").expect("it is written");
    let output = run(&folder, &["request", "GET", "/visit/home"], &[]);
    assert_eq!(output.status.code(), Some(5));
    let checked = run(&folder, &["check"], &[]);
    let said = text(&checked);
    assert!(!checked.status.success(), "{said}");
    assert!(said.contains("wrong  Store          the store is damaged"), "{said}");
    assert!(said.contains("Hint: Until then what needs it fails."), "{said}");
    done(&folder, &["restore", "copy"], &[]);
    assert_eq!(visit(&folder, &[]), 3);
    let said = text(&run(&folder, &["check"], &[]));
    assert!(said.contains("   Data  ") && !said.contains("Store"), "{said}");
}

#[test]
fn they_move_to_a_database_and_back() {
    let server = Server::start();
    let url = server.tcp_url();
    let in_database = [("OWN_APP_DATABASE", &*url)];
    let folder = Folder::new(&Setup::new(App::OwnApp, "")).expect("a folder");
    assert_eq!(visit(&folder, &[]), 1);
    let said = done(&folder, &["store", "move", &url], &[]);
    assert!(said.contains("Moved 1 rows in 1 tables"), "{said}");
    assert_eq!(visit(&folder, &in_database), 2);
    let refused = run(&folder, &["request", "GET", "/visit/home"], &[]);
    assert_eq!(refused.status.code(), Some(5));
    assert!(text(&refused).contains("the store has moved to another place"), "{}", text(&refused));
    let checked = text(&run(&folder, &["check"], &in_database));
    assert!(checked.contains("ok     Database       PostgreSQL responds"), "{checked}");
    // What is secret is not shown.
    let settings = done(&folder, &["settings"], &in_database);
    assert!(
        settings.contains("OWN_APP_DATABASE") && !settings.contains("postgres://"),
        "{settings}"
    );

    let home = folder.path().join("back");
    let target = home.join("own-app.db");
    done(&folder, &["store", "move", &url, target.to_str().expect("UTF-8")], &in_database);
    let data = [("OWN_APP_DATA", home.to_str().expect("UTF-8"))];
    assert_eq!(visit(&folder, &data), 3);
    let wrong = run(&folder, &["check"], &[("OWN_APP_DATABASE", "mysql://here")]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong).contains("write a URL such as postgres://"), "{}", text(&wrong));
}
