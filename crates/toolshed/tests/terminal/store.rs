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
