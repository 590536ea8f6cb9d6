//! What an owner does with the store from a shell.

use std::fs;

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
    assert_eq!(lines[1], ["site", "3", "of", "3", "sessions", "1"]);
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
    newer.execute_batch("INSERT INTO migrations VALUES ('site', 4, 'checksum', 4, 0)").unwrap();
    drop(newer);
    rusqlite::Connection::open(path("others.db"))
        .unwrap()
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    let before = fs::read(path("data/toolshed.db")).unwrap();
    for (name, why) in [
        ("nowhere.db", "nowhere.db cannot be restored: No such file or directory"),
        ("data", "it is not a regular file"),
        ("data/toolshed.db", "it is the store itself"),
        ("text", "it is damaged (file is not a database)"),
        ("empty", "it is not a copy of a store"),
        ("others.db", "it is not a copy of a store"),
        ("half.db", "it is damaged (database disk image is malformed)"),
        ("used.db", "there is a journal beside it"),
        ("newer.db", "its tables of site are version 4, this program knows 3"),
    ] {
        let (code, text) = installation.run(&["restore", name], &[]);
        assert_eq!(code, 1, "{name}: {text}");
        assert!(text.starts_with("! toolshed: Nothing was restored: "), "{name}: {text}");
        assert!(text.contains(why), "{name}: {text}");
        assert!(before == fs::read(path("data/toolshed.db")).unwrap(), "{name}");
    }
    assert!(!path("data/toolshed.db-replaced").exists());
}

#[test]
fn a_backup_takes_the_place_of_a_damaged_store_and_of_none() {
    let installation = Installation::new();
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    let (_, session) = log_in(&running, PASSWORD, &[]);
    let session = session.unwrap();
    assert_eq!(installation.run(&["backup", "copy.db"], &[]).0, 0);
    let store = installation.path().join("data/toolshed.db");
    let is_logged_in = || {
        let page = [("REQUEST_URI", "/tools/inspect"), ("HTTP_COOKIE", session.as_str())];
        running.ask(&page).starts_with("Status: 200")
    };
    for damage in ["this is no database, however long the text in it may be", ""] {
        fs::remove_file(&store).unwrap();
        if !damage.is_empty() {
            installation.write("data/toolshed.db", damage);
        }
        assert!(!is_logged_in());
        if damage.is_empty() {
            // The site has created a new one.
            fs::remove_file(&store).unwrap();
        }
        let (code, text) = installation.run(&["restore", "copy.db"], &[]);
        assert_eq!(code, 0, "{text}");
        assert_eq!(text.contains("-replaced"), !damage.is_empty(), "{text}");
        assert!(is_logged_in(), "{damage}");
    }
}

/// A process that is killed at any of its steps leaves a whole store: the one before, or the restored one.
#[test]
fn a_killed_restore_leaves_the_store_or_the_backup() {
    let installation = Installation::new();
    let path = |name: &str| installation.path().join(name);
    let running = installation.spawn_by_web_server(&[("APP_PASSWORD", PASSWORD)]);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    assert_eq!(installation.run(&["backup", "one.db"], &[]).0, 0);
    assert!(log_in(&running, PASSWORD, &[]).1.is_some());
    assert_eq!(installation.run(&["backup", "two.db"], &[]).0, 0);
    running.end();
    let sessions = |name: &str| {
        let store = rusqlite::Connection::open(path(name)).unwrap();
        let check = store.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
        assert_eq!(check.unwrap(), "ok");
        store.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let (mut kept, mut restored) = (0, 0);
    for call in ["link,linkat", "rename,renameat,renameat2", "fsync", "write", "fcntl", "unlink"] {
        for nth in 1.. {
            assert!(nth < 500, "{call} has no end");
            let (from, to) = if restored % 2 == 0 { ("one.db", 1) } else { ("two.db", 2) };
            let before = sessions("data/toolshed.db");
            let mut command = std::process::Command::new("strace");
            command.args(["-qq", "-o", "/dev/null", "-e"]).arg(format!("trace={call}"));
            for call in call.split(',') {
                command.arg(format!("--inject={call}:signal=KILL:when={nth}"));
            }
            command.arg(installation.program()).args(["restore", from]).env_clear();
            let output = command.current_dir(installation.path()).output().unwrap();
            let now = sessions("data/toolshed.db");
            if output.status.code() == Some(0) {
                assert_eq!(now, to, "{call} {nth}");
                restored += 1;
                break;
            }
            assert!(now == before || now == to, "{call} {nth}: {now}");
            kept += usize::from(now == before);
            if path("data/toolshed.db-replaced").exists() {
                assert!([1, 2].contains(&sessions("data/toolshed.db-replaced")), "{call} {nth}");
            }
        }
    }
    assert!(kept > 20, "only {kept} were killed before the end");
}
