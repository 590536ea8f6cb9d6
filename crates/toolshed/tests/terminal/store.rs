//! What an owner does with the store from a shell.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use postgres_fixture::Server;

use crate::login::{PASSWORD, log_in};
use crate::program::Installation;

#[test]
fn the_store_is_shown_and_checked() {
    let installation = Installation::new();
    for arguments in [&["store"][..], &["store", "check"]] {
        let (code, text) = installation.run(arguments, &[]);
        let missing = "! toolshed: There is no store yet: HOME/data/toolshed.db does not exist.\n";
        assert!(code == 1 && text.starts_with(missing), "{text}");
    }
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    let (code, text) = installation.run(&["store"], &[]);
    assert_eq!(code, 0, "{text}");
    let (head, table) = text.split_once("\n\n").unwrap();
    assert!(head.starts_with("HOME/data/toolshed.db: ") && head.ends_with(" KiB"), "{text}");
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = table.lines().map(cells).collect();
    assert_eq!(lines[0], ["SCHEMA", "MIGRATIONS", "TABLE", "ROWS"]);
    assert_eq!(lines[1], ["site", "4", "of", "4", "sessions", "1"]);
    let (code, text) = installation.run(&["store", "check"], &[]);
    assert_eq!((code, text.as_str()), (0, "HOME/data/toolshed.db is intact.\n"));

    let file = installation.path().join("data/toolshed.db");
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let (code, text) = installation.run(&["store", "check"], &[]);
    assert!(
        code == 1 && text.contains("HOME/data/toolshed.db did not pass: the store is damaged"),
        "{text}"
    );
}

#[test]
fn what_is_not_a_backup_is_not_restored() {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    assert_eq!(installation.run(&["backup", "copy.db"], &[]).0, 0);
    let path = |name: &str| installation.path().join(name);
    let whole = fs::read(path("copy.db")).unwrap();
    fs::write(path("text"), "this is no database, however long the text in it may be").unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("half.db"), &whole[..whole.len() / 2]).unwrap();
    fs::write(path("used.db"), &whole).unwrap();
    fs::write(path("used.db-journal"), "x").unwrap();
    fs::copy(path("copy.db"), path("newer.db")).unwrap();
    let newer = rusqlite::Connection::open(path("newer.db")).unwrap();
    newer.execute_batch("INSERT INTO migrations VALUES ('site', 5, 'checksum', 5, 0)").unwrap();
    drop(newer);
    rusqlite::Connection::open(path("others.db"))
        .unwrap()
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    let before = fs::read(path("data/toolshed.db")).unwrap();
    for (name, why) in [
        ("nowhere.db", "nowhere.db: No such file or directory"),
        ("data", "it is not a regular file"),
        ("data/toolshed.db", "it is the store itself"),
        ("text", "it is damaged (file is not a database)"),
        ("empty", "it is not a copy of a store"),
        ("others.db", "it is not a copy of a store"),
        ("half.db", "it is damaged (database disk image is malformed)"),
        ("used.db", "there is a journal beside it"),
        ("newer.db", "its tables of site are version 5, this program knows 4"),
    ] {
        let (code, text) = installation.run(&["restore", name], &[]);
        assert_eq!(code, 1, "{name}: {text}");
        assert!(text.starts_with("! toolshed: Nothing was restored: "), "{name}: {text}");
        assert!(text.contains(why), "{name}: {text}");
        assert!(before == fs::read(path("data/toolshed.db")).unwrap(), "{name}");
    }
    assert!(!path("data/toolshed.db-replaced").exists());

    let (code, text) =
        installation.run(&["restore", "nowhere.db"], &[("TOOLSHED_DATA", "elsewhere")]);
    assert_eq!(code, 1, "{text}");
    assert!(!path("elsewhere").exists(), "a mistyped name creates nothing");
}

/// Counts what has happened to the account, in a store that is intact.
fn events(store: &Path) -> i64 {
    let store = rusqlite::Connection::open(store).unwrap();
    let check = store.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(check.unwrap(), "ok");
    store.query_row("SELECT count(*) FROM events", [], |row| row.get::<_, i64>(0)).unwrap()
}

#[test]
fn a_backup_takes_the_place_of_a_damaged_store_and_of_none() {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    let (_, session) = log_in(&running, PASSWORD, &[]);
    let session = session.unwrap();
    assert_eq!(installation.run(&["backup", "copy.db"], &[]).0, 0);
    let store = installation.path().join("data/toolshed.db");
    let is_logged_in = |session: &str| {
        let page = [("REQUEST_URI", "/tools/inspect"), ("HTTP_COOKIE", session)];
        running.ask(&page).starts_with("Status: 200")
    };
    for damage in ["this is no database, however long the text in it may be", ""] {
        fs::remove_file(&store).unwrap();
        if !damage.is_empty() {
            installation.write("data/toolshed.db", damage);
        }
        assert!(!is_logged_in(&session));
        if damage.is_empty() {
            // The site has created a new one.
            fs::remove_file(&store).unwrap();
        }
        let (code, text) = installation.run(&["restore", "copy.db"], &[]);
        assert_eq!(code, 0, "{text}");
        assert_eq!(text.contains("-replaced"), !damage.is_empty(), "{text}");
        assert_eq!(events(&store), 2, "the login before the backup, and the restore");
        let (_, session) = log_in(&running, PASSWORD, &[]);
        assert!(is_logged_in(&session.unwrap()), "{damage}");
    }
}

/// Runs a command whose n-th call of a kind has something done to it, if there are so many.
fn run_with_injected(
    installation: &Installation,
    calls: &str,
    what: &str,
    arguments: &[&str],
) -> Output {
    let mut command = Command::new("strace");
    command.args(["-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={calls}"));
    for call in calls.split(',') {
        command.arg(format!("--inject={call}:{what}"));
    }
    command.arg(installation.program()).args(arguments).env_clear();
    command.current_dir(installation.path()).output().unwrap()
}

/// Runs a command that is killed by its n-th call of a kind, if there are so many.
fn killed_at(installation: &Installation, calls: &str, nth: u32, arguments: &[&str]) -> Output {
    run_with_injected(installation, calls, &format!("signal=KILL:when={nth}"), arguments)
}

/// An installation whose store has two events, and two backups of it, with one and two.
fn with_two_backups() -> Installation {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    for backup in ["one.db", "two.db"] {
        assert!(log_in(&running, PASSWORD, &[]).1.is_some());
        assert_eq!(installation.run(&["backup", backup], &[]).0, 0);
    }
    running.end();
    installation
}

/// What is restored, and how many events there are then.
const RESTORED: [(&str, i64); 2] = [("one.db", 2), ("two.db", 3)];

/// A process that is killed at any of its steps leaves a whole store: the one before, or the restored one.
#[test]
fn a_killed_restore_leaves_the_store_or_the_backup() {
    let installation = with_two_backups();
    let [store, replaced] = ["data/toolshed.db", "data/toolshed.db-replaced"]
        .map(|name| installation.path().join(name));
    let (mut kept, mut restored) = (0, 0);
    for call in ["link,linkat", "rename,renameat,renameat2", "fsync", "write", "fcntl", "unlink"] {
        for nth in 1.. {
            assert!(nth < 500, "{call} has no end");
            let (from, to) = RESTORED[restored % 2];
            let before = events(&store);
            let output = killed_at(&installation, call, nth, &["restore", from]);
            let now = events(&store);
            if output.status.code() == Some(0) {
                assert_eq!(now, to, "{call} {nth}");
                restored += 1;
                break;
            }
            assert!(now == before || now == to, "{call} {nth}: {now}");
            kept += usize::from(now == before);
            if replaced.exists() {
                assert!([2, 3].contains(&events(&replaced)), "{call} {nth}");
            }
        }
    }
    assert!(kept > 20, "only {kept} were killed before the end");
}

/// On a full disk nothing is restored, whatever it is that needs room first, and the message says why; once there is
/// room, it works.
#[test]
fn a_restore_on_a_full_disk_changes_nothing() {
    let installation = with_two_backups();
    let store = installation.path().join("data/toolshed.db");
    let mut failed = 0;
    for call in ["pwrite64", "copy_file_range,sendfile", "mkdir", "fsync"] {
        for nth in 1.. {
            assert!(nth < 500, "{call} has no end");
            let before = fs::read(&store).unwrap();
            // From then on: nobody makes room meanwhile.
            let full = format!("error=ENOSPC:when={nth}+");
            let output = run_with_injected(&installation, call, &full, &["restore", "two.db"]);
            if output.status.code() == Some(0) {
                break;
            }
            assert_eq!(output.status.code(), Some(1), "{call} {nth}: {output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains("Nothing was restored: "), "{call} {nth}: {said}");
            assert!(said.contains("free some space"), "{call} {nth}: {said}");
            assert!(fs::read(&store).unwrap() == before, "{call} {nth}: {said}");
            failed += 1;
        }
        let (code, text) = installation.run(&["restore", "one.db"], &[]);
        assert_eq!(code, 0, "{call}: {text}");
        assert_eq!(events(&store), 2);
    }
    assert!(failed > 10, "only {failed} failed");
    let left = fs::read_dir(installation.path().join("data")).unwrap();
    let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().starts_with(".copy")), "{left:?}");
}

#[test]
fn a_site_moves_to_a_database_and_back_with_its_sessions() {
    let installation = Installation::new();
    let server = Server::start();
    let url = server.url();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    let (_, session) = log_in(&running, PASSWORD, &[]);
    let session = session.unwrap();
    let page = [("REQUEST_URI", "/tools/inspect"), ("HTTP_COOKIE", session.as_str())];
    // By TCP, where it needs the password, which is in the environment.
    let without_it =
        server.tcp_url().replace(&format!(":{}@", postgres_fixture::PASSWORD_IN_URL), "@");
    let (code, text) = installation.run(&["store", "move", &without_it], &[]);
    assert!(code == 1 && text.contains("password"), "{text}");
    let secret = [("PGPASSWORD", postgres_fixture::PASSWORD)];
    // A mistake is not a folder with that name.
    for (place, why) in [
        (
            &*url.replace("postgres:", "postgress:"),
            "the scheme in the URL of the database is wrong",
        ),
        (&*url.replace("://", ":/"), "the scheme in the URL of the database is wrong"),
        ("./data/toolshed.db", "the store is in ./data/toolshed.db already"),
        ("elsewhere/x.db", "a store in a file is called toolshed.db"),
    ] {
        let (code, text) = installation.run(&["store", "move", place], &secret);
        assert!(code != 0 && text.contains(why) && !text.contains("remove"), "{place}: {text}");
    }
    let (code, text) = installation.run(&["store", "move", &without_it], &secret);
    let moved =
        between(&text, "Moved ", " rows in 8 tables from HOME/data/toolshed.db to PostgreSQL");
    assert!(code == 0 && moved.parse::<u32>().is_ok(), "{text}");
    let rest = "Now set database to that URL.\n\
                What was there is kept as HOME/data/toolshed.db-moved.\n";
    assert!(text.ends_with(rest), "{text}");
    // A process that goes on with the file says so in the log, and its visitors that nothing works.
    assert!(running.ask(&page).starts_with("Status: 503"));
    assert!(
        installation.read("logs/toolshed.log").contains("the store has moved to another place")
    );
    running.end();

    let with = [("APP_PASSWORD", PASSWORD), ("TOOLSHED_DATABASE", url.as_str())];
    fs::remove_file(installation.path().join("web-server.sock")).unwrap();
    let running = installation.spawn_by_web_server(&with);
    assert!(running.ask(&page).starts_with("Status: 200"));
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    running.end();
    let (code, text) = installation.run(&["store"], &[("TOOLSHED_DATABASE", &url)]);
    assert!(code == 0 && text.contains("site    4 of 4"), "{text}");

    let back = ["store", "move", "data/toolshed.db"];
    let (code, text) = installation.run(&back, &[("TOOLSHED_DATABASE", &url)]);
    assert!(code == 0 && text.starts_with("Moved "), "{text}");
    assert!(
        text.contains("\nNow set data to HOME/data, unless it is that already, and remove"),
        "{text}"
    );
    fs::remove_file(installation.path().join("web-server.sock")).unwrap();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(running.ask(&page).starts_with("Status: 200"));
    let (code, text) = installation.run(&back, &[("TOOLSHED_DATABASE", &url)]);
    assert!(code == 1 && text.contains("has moved to another place"), "{text}");
}

/// Returns what stands between two texts.
fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("{before} is not in {text}"));
    rest.split_once(after).unwrap_or_else(|| panic!("{after} is not in {text}")).0
}

/// Killed at any of its steps, a move leaves one place in use or, for the moment before its end, none; run again, it
/// completes.
#[test]
fn a_killed_move_is_run_again() {
    let installation = Installation::new();
    let server = Server::start();
    let url = server.url();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    running.end();
    // "1 of 1": the site's sessions, or why there are none to be seen.
    let look = |place: &[(&str, &str)]| {
        let (code, text) = installation.run(&["store"], place);
        (code, text.lines().find(|line| line.contains("sessions")).map(str::to_owned))
    };
    let places = [[("TOOLSHED_DATABASE", "")], [("TOOLSHED_DATABASE", url.as_str())]];
    let mut interrupted = 0;
    for calls in ["sendto,write", "fsync,fdatasync", "rename,renameat,link,linkat", "unlink"] {
        for to in ["there", "back"] {
            let arguments = match to {
                "there" => ["store", "move", "data/toolshed.db", &url],
                _ => ["store", "move", &url, "data/toolshed.db"],
            };
            for nth in (1..).step_by(if calls == "sendto,write" { 7 } else { 1 }) {
                assert!(nth < 2000, "{calls} has no end");
                let output = killed_at(&installation, calls, nth, &arguments);
                let said = String::from_utf8_lossy(&output.stderr);
                // All was done the time before, except to say so.
                if output.status.code() == Some(0) || said.contains("has moved") {
                    break;
                }
                assert_ne!(output.status.code(), Some(2), "{output:?}");
                interrupted += 1;
            }
            let (_, sessions) = look(&places[usize::from(to == "there")]);
            assert!(sessions.unwrap().ends_with(" 1"), "{calls} {to}");
        }
    }
    assert!(interrupted > 30, "only {interrupted} were killed before the end");
}

/// `database` is set before the store was moved: the site begins with an empty one.
#[test]
fn a_store_that_was_not_taken_along_is_found() {
    let installation = Installation::new();
    let server = Server::start();
    let url = server.url();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    running.end();
    let in_database = [("APP_PASSWORD", PASSWORD), ("TOOLSHED_DATABASE", url.as_str())];
    let check = || installation.run(&["check"], &in_database).1;
    let found = "the site does not use HOME/data/toolshed.db, in which it has kept things before";
    assert!(check().contains(found), "{}", check());
    let (code, text) = installation.run(&["store", "move", "data/toolshed.db", &url], &[]);
    assert!(code == 0, "{text}");
    assert!(!check().contains(found), "{}", check());
    // To a folder without the key, which is no part of the store.
    let (code, text) = installation.run(&["store", "move", &url, "new/toolshed.db"], &[]);
    assert!(code == 0 && text.contains("Copy HOME/data/secret.key there, too"), "{text}");
}

/// Root restores on behalf of the account.
#[test]
fn a_restore_by_root_leaves_the_store_to_its_account() {
    let installation = with_two_backups();
    if !rustix::process::geteuid().is_root() {
        // Then there is nobody to act for.
        assert_eq!(installation.run(&["restore", "one.db"], &[]).0, 0);
        return;
    }
    let data = installation.path().join("data");
    let entries = fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path());
    for path in entries.chain([data.clone()]) {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let (code, text) = installation.run(&["restore", "one.db"], &[]);
    assert!(code == 0, "{text}");
    let store = fs::metadata(data.join("toolshed.db")).unwrap();
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&store), 65534);
}

/// Of two at once, one moves the store, wherever they move it to, and nothing is lost or in use twice.
#[test]
fn of_two_moves_at_once_one_is_made() {
    const ROWS: i64 = 20_000;
    let server = Server::start();
    server.psql("CREATE SCHEMA other");
    let here = server.url();
    let there = here.clone() + "?options=-csearch_path%3Dother";
    for round in 0..3 {
        let installation = Installation::new();
        server.psql("DROP SCHEMA public CASCADE; DROP SCHEMA other CASCADE");
        server.psql("CREATE SCHEMA public; CREATE SCHEMA other");
        let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
        assert!(log_in(&running, PASSWORD, &[]).1.is_some());
        running.end();
        let file = installation.path().join("data/toolshed.db");
        let before = {
            let add = format!(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ROWS})
                 INSERT INTO events (at, what, browser, address) SELECT i, 'x', '', '' FROM n"
            );
            rusqlite::Connection::open(&file).unwrap().execute_batch(&add).unwrap();
            events(&file)
        };
        let places = ["data/toolshed.db", "one/toolshed.db", "two/toolshed.db", &*here, &*there];
        let mut from = places[0];
        for [one, other] in [
            [&*here, &*here],
            ["one/toolshed.db", "one/toolshed.db"],
            [&*here, &*there],
            ["one/toolshed.db", "two/toolshed.db"],
            ["one/toolshed.db", &*here],
        ] {
            // Where it is already is no place to move it to.
            if [one, other].contains(&from) {
                continue;
            }
            let start = |to: &str| installation.start(&["store", "move", from, to]);
            let mut moves = vec![start(one)];
            std::thread::sleep(std::time::Duration::from_millis(40 * round));
            moves.push(start(other));
            let ended: Vec<_> =
                moves.into_iter().map(|it| it.wait_with_output().unwrap()).collect();
            let said = format!("{from} to {one} and {other}: {ended:?}");
            let moved =
                |output: &Output| output.status.success() && output.stdout.starts_with(b"Moved ");
            assert_eq!(ended.iter().filter(|output| moved(output)).count(), 1, "{said}");
            let at = if moved(&ended[0]) { one } else { other };
            for place in places {
                let variables = match place.starts_with("postgres") {
                    true => [("TOOLSHED_DATABASE", place), ("TOOLSHED_DATA", "data")],
                    false => {
                        let folder = place.strip_suffix("/toolshed.db").unwrap();
                        [("TOOLSHED_DATABASE", ""), ("TOOLSHED_DATA", folder)]
                    }
                };
                let (_, text) = installation.run(&["store"], &variables);
                let is_there = text.contains("sessions");
                assert_eq!(is_there, place == at, "{said}: {place}: {text}");
                if is_there {
                    let row = text.lines().find(|line| line.contains("events")).unwrap();
                    assert!(row.ends_with(&format!(" {before}")), "{said}: {row}");
                }
            }
            from = at;
        }
    }
}
