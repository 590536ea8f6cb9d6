//! All tests of the login once more, with the store in PostgreSQL.

use std::process::Command;

use postgres_fixture::Server;

/// The variable that says so.
const DATABASE: &str = "TOOLSHED_TEST_DATABASE";

/// Draws of many hours, with as many statements as that takes.
const LONG: [&str; 3] = [
    "constant_polling_by_a_crowd_does_not_lock_the_owner_out",
    "each_network_wins_as_often_however_often_and_from_how_many_addresses_it_asks",
    "many_addresses_together_get_one_attempt_in_ten_seconds",
];

#[test]
fn everything_is_the_same_on_postgres() {
    if std::env::var_os(DATABASE).is_some() {
        return;
    }
    let server = Server::start_with(&["max_connections=300"]);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["login::"]).env(DATABASE, server.url());
    for name in LONG {
        command.args(["--skip", name]);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    let passed = said.matches(" ... ok").count();
    assert!(passed > 60, "{passed} tests: {said}");
    assert_ne!(server.psql("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 't%'"), "0");
}
