//! Each statement, and each step with a file, fails once while a store is moved, backed up or restored: with an error
//! that is over when it is tried again, and with one that is not.

use std::fs;
use std::path::Path;
use std::thread;

use postgres_fixture::Server;
use storage::faults::{fail_statement, take_back};
use storage::{Migration, Schema, Snapshot, StoreError, params};

use crate::{Place, names, put};

const SCHEMA: Schema = Schema {
    name: "site",
    migrations: &[
        Migration::contract("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)"),
        Migration::expand("CREATE TABLE days (number BIGINT PRIMARY KEY)"),
    ],
};

const ERRORS: [fn() -> StoreError; 2] = [|| StoreError::Full, || StoreError::Conflict];

/// Lets a future run in a loop of its own, as in a process of its own.
fn run<T>(future: impl Future<Output = T>) -> T {
    event_loop::run(future).unwrap()
}

/// Does something with the first statement failing, then with the second one, and so on, until none fails any more.
/// Returns how many statements there were.
fn sweep<T>(
    error: fn() -> StoreError,
    mut prepare: impl FnMut(),
    mut act: impl FnMut() -> Result<T, StoreError>,
    mut check: impl FnMut(&Result<T, StoreError>, u32),
) -> u32 {
    for number in 1..500 {
        prepare();
        fail_statement(number, error);
        let done = act();
        let is_over = take_back();
        if let Err(error) = &done {
            let said = error.to_string();
            let is_a_sentence = said.contains(' ') && !said.contains('\n') && !said.ends_with('.');
            assert!(is_a_sentence && !said.contains("a mistake"), "statement {number}: {said}");
        }
        check(&done, number);
        if is_over {
            assert!(done.is_ok(), "without a failure: {}", done.err().unwrap());
            return number - 1;
        }
    }
    panic!("it never ends");
}

impl Place<'_> {
    fn remove(self) {
        match self {
            Place::File(file) => {
                let _ = fs::remove_dir_all(file.parent().unwrap());
            }
            Place::Server(server) => {
                server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            }
        }
    }

    fn is_empty(self) -> bool {
        let has_tables = async |store: &Snapshot<'_>| store.has_table("migrations").await;
        match self {
            Place::File(file) => !file.exists(),
            Place::Server(_) => self.store(SCHEMA).look(has_tables).unwrap() == Some(false),
        }
    }

    /// Says why a program would refuse the store.
    fn obstacle(self) -> Option<StoreError> {
        self.store(SCHEMA).find_obstacle(&[SCHEMA]).err()
    }

    fn names(self) -> Vec<String> {
        run(async { names(&self.store(SCHEMA)).await }).unwrap()
    }

    fn fill(self) {
        run(async {
            let store = self.store(SCHEMA);
            for name in NAMES {
                put(&store, name, "as it was").await.unwrap();
            }
        });
    }

    fn move_to(self, target: Self) -> Result<bool, StoreError> {
        run(async {
            let (source, target) = (self.store(SCHEMA), target.store(SCHEMA));
            let moved = source.move_to(&target, &[SCHEMA], |_| {}).await?;
            Ok(moved.is_some())
        })
    }
}

const NAMES: [&str; 3] = ["a", "b", "ä"];

/// After a failure exactly one of the two is in use, and it has everything; the other one says why not.
fn check_move(source: Place<'_>, target: Place<'_>, done: &Result<bool, StoreError>, number: u32) {
    let obstacles = (source.obstacle(), target.obstacle());
    match (done, &obstacles) {
        // Nothing has happened, or the target waits for another attempt.
        (Err(_), (None, None)) => assert!(target.is_empty(), "statement {number}: both in use"),
        (Err(_), (None, Some(StoreError::Unfinished)))
        | (
            Err(StoreError::MoveUnfinished(_)),
            (Some(StoreError::Moved), Some(StoreError::Unfinished)),
        )
        | (Ok(true), (Some(StoreError::Moved), None)) => {}
        other => panic!("statement {number}: {other:?}"),
    }
    if obstacles.0.is_none() {
        assert_eq!(source.names(), NAMES, "statement {number}: the source");
    }
    if done.is_err() {
        let is_whole_move = source.move_to(target);
        let is_whole_move =
            is_whole_move.unwrap_or_else(|error| panic!("{number}, again: {error}"));
        assert_eq!(is_whole_move, obstacles.0.is_none(), "statement {number}");
    }
    assert_eq!(target.names(), NAMES, "statement {number}: the target");
    assert!(matches!(source.obstacle(), Some(StoreError::Moved)), "statement {number}");
}

fn sweep_moves(source: Place<'_>, target: Place<'_>, error: fn() -> StoreError) -> u32 {
    let prepare = || {
        source.remove();
        target.remove();
        source.fill();
    };
    let act = || source.move_to(target);
    sweep(error, prepare, act, |done, number| check_move(source, target, done, number))
}

#[test]
fn a_move_with_failing_statements_can_be_repeated() {
    let folder = tempfile::tempdir().unwrap();
    // Each has a place of its own: most of the time is waiting for the source to settle.
    let count = |name: &str, is_back: bool, error| {
        let file = folder.path().join(name).join("store.db");
        let server = Server::start();
        let (file, server) = (Place::File(&file), Place::Server(&server));
        let (source, target) = if is_back { (server, file) } else { (file, server) };
        sweep_moves(source, target, error)
    };
    thread::scope(|scope| {
        let count = &count;
        let sweeps = [
            ("there, full", false, ERRORS[0]),
            ("there, conflict", false, ERRORS[1]),
            ("back, full", true, ERRORS[0]),
            ("back, conflict", true, ERRORS[1]),
        ];
        let sweeps = sweeps
            .map(|(name, is_back, error)| (name, scope.spawn(move || count(name, is_back, error))));
        for (name, sweep) in sweeps {
            let count = sweep.join().unwrap();
            assert!(count > 40, "{name}: {count} statements");
        }
    });
}

/// Nothing was left behind in the folder of a store.
fn check_folder(file: &Path, number: u32) {
    for entry in fs::read_dir(file.parent().unwrap()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_known = name.starts_with("store.db") || name == "backup.db";
        assert!(is_known, "statement {number} left {name}");
    }
}

#[test]
fn a_backup_with_failing_statements_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let backup = folder.path().join("backup.db");
    let (store, copy) = (Place::File(&file), Place::File(&backup));
    for error in ERRORS {
        let prepare = || {
            for old in [&file, &backup] {
                let _ = fs::remove_file(old);
            }
            run(async { put(&store.store(SCHEMA), "first", "").await }).unwrap();
            run(async { store.store(SCHEMA).back_up(&backup).await }).unwrap();
            run(async { put(&store.store(SCHEMA), "second", "").await }).unwrap();
        };
        let act = || run(async { store.store(SCHEMA).back_up(&backup).await });
        let check = |done: &Result<(), StoreError>, number| {
            let saved: &[&str] = if done.is_ok() { &["first", "second"] } else { &["first"] };
            assert_eq!(copy.names(), saved, "statement {number}: {done:?}");
            assert_eq!(store.names(), ["first", "second"], "statement {number}");
            check_folder(&file, number);
            act().unwrap();
            assert_eq!(copy.names(), ["first", "second"], "statement {number}");
        };
        let count = sweep(error, prepare, act, check);
        assert!(count > 7, "{count} statements");
    }
}

#[test]
fn restoring_with_failing_statements_leaves_the_store() {
    let restore = |store: Place<'_>, backup: &Path| {
        let change = async |store: &storage::Transaction<'_>| {
            let change = "INSERT INTO facts (name, value) VALUES ($1, 'now')";
            store.execute(change, params!["restored"]).await.map(drop)
        };
        run(async { store.store(SCHEMA).restore(backup, &[SCHEMA], change).await })
    };
    let count = |error| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("store.db");
        let backup = folder.path().join("backup.db");
        let store = Place::File(&file);
        run(async { put(&store.store(SCHEMA), "saved", "").await }).unwrap();
        run(async { store.store(SCHEMA).back_up(&backup).await }).unwrap();
        let saved = fs::read(&backup).unwrap();
        let prepare = || {
            let _ = fs::remove_file(&file);
            run(async { put(&store.store(SCHEMA), "in use", "").await }).unwrap();
        };
        let act = || restore(store, &backup);
        let check = |done: &Result<_, StoreError>, number| {
            assert_eq!(fs::read(&backup).unwrap(), saved, "statement {number}: the backup");
            check_folder(&file, number);
            if done.is_err() {
                assert_eq!(store.names(), ["in use"], "statement {number}");
                act().unwrap_or_else(|error| panic!("{number}, again: {error}"));
            }
            assert_eq!(store.names(), ["restored", "saved"], "statement {number}");
            let kept = file.with_file_name("store.db-replaced");
            assert_eq!(Place::File(&kept).names(), ["in use"], "statement {number}");
        };
        sweep(error, prepare, act, check)
    };
    thread::scope(|scope| {
        let counts = ERRORS.map(|error| scope.spawn(move || count(error)));
        for count in counts.map(|sweep| sweep.join().unwrap()) {
            assert!(count > 15, "{count} statements");
        }
    });
}
