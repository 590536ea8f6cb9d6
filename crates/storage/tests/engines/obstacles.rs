//! Why a store would not work is found without changing it.

use postgres_fixture::Server;
use storage::{Migration, Rows, Schema, StoreError};

use crate::{Place, in_postgres, names, on_every_engine, put, said};

const FACTS: Schema = Schema {
    name: "facts",
    migrations: &[Migration::contract(
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    )],
};
const NEWER: Schema = Schema {
    name: "facts",
    migrations: &[
        FACTS.migrations[0],
        Migration::contract("ALTER TABLE facts RENAME COLUMN value TO content"),
    ],
};

#[test]
fn a_store_that_works_or_is_not_there_yet_has_none() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    for place in [Place::File(&folder.path().join("data/store.db")), Place::Server(&server)] {
        let store = place.store(FACTS);
        store.find_obstacle(&[FACTS]).unwrap();
        if let Place::File(file) = place {
            assert!(!file.exists());
        }
        event_loop::run(put(&store, "a", "1")).unwrap().unwrap();
        store.find_obstacle(&[FACTS]).unwrap();
        // The next version has something to migrate.
        store.find_obstacle(&[NEWER]).unwrap();
        let newer = place.store(NEWER);
        event_loop::run(newer.read(async |_| Ok(()))).unwrap().unwrap();
        let refused = store.find_obstacle(&[FACTS]).unwrap_err();
        assert!(matches!(refused, StoreError::Newer { .. }), "{refused}");
    }
}

#[test]
fn a_table_that_is_missing_or_somebody_elses_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start();
    for place in [Place::File(&folder.path().join("data/store.db")), Place::Server(&server)] {
        let store = place.store(FACTS);
        event_loop::run(put(&store, "a", "1")).unwrap().unwrap();
        let change = |sql: &str| match place {
            Place::File(file) => {
                rusqlite::Connection::open(file).unwrap().execute_batch(sql).unwrap()
            }
            Place::Server(server) => drop(server.psql(sql)),
        };
        change("DROP TABLE facts");
        let refused = store.find_obstacle(&[FACTS]).unwrap_err();
        assert!(matches!(&refused, StoreError::MissingTable(name) if name == "facts"), "{refused}");
        // Not even a view will do.
        change("CREATE VIEW facts AS SELECT 1 AS name");
        let refused = store.find_obstacle(&[FACTS]).unwrap_err();
        assert!(matches!(refused, StoreError::MissingTable(_)), "{refused}");
        if let Place::File(file) = place {
            let other = Place::File(&file.with_file_name("other.db")).store(FACTS);
            event_loop::run(put(&other, "b", "2")).unwrap().unwrap();
            change("DROP VIEW facts");
            let restored = other.restore(file, &[FACTS], async |_| Ok(()));
            let refused = said(event_loop::run(restored).unwrap());
            assert!(refused.contains("table facts has been removed"), "{refused}");
        }
        change(
            "DROP VIEW IF EXISTS facts; DELETE FROM migrations WHERE schema = 'facts'; CREATE TABLE facts (a TEXT)",
        );
        let refused = store.find_obstacle(&[FACTS]).unwrap_err();
        assert!(matches!(&refused, StoreError::ForeignTable(name) if name == "facts"), "{refused}");
    }
}

/// Opening a pipe waits for the other end.
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_at_once() {
    for name in ["store.db", "store.db-journal", "store.db-wal"] {
        let folder = tempfile::tempdir().unwrap();
        let store = Place::File(&folder.path().join("store.db")).store(FACTS);
        if name != "store.db" {
            event_loop::run(put(&store, "a", "1")).unwrap().unwrap();
            let _ = std::fs::remove_file(folder.path().join(name));
        }
        let pipe = folder.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let (done, found) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(store.find_obstacle(&[FACTS])));
        let found = found.recv_timeout(std::time::Duration::from_secs(20)).expect("it waits");
        let found = said(found);
        assert!(
            found.contains(name) && found.ends_with("not a regular file; remove it"),
            "{found}"
        );
    }
}

#[test]
fn a_moved_store_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data/store.db");
    let server = Server::start();
    let (from, to) = (Place::File(&file).store(FACTS), Place::Server(&server).store(FACTS));
    event_loop::run(async {
        put(&from, "a", "1").await?;
        from.move_to(&to, &[FACTS], |_| {}).await
    })
    .unwrap()
    .unwrap();
    let refused = from.find_obstacle(&[FACTS]).unwrap_err();
    assert!(matches!(refused, StoreError::Moved), "{refused}");
    to.find_obstacle(&[FACTS]).unwrap();
}

/// The name is a usual one.
#[test]
fn a_table_of_migrations_of_another_program_is_recognized() {
    on_every_engine(async |place| {
        let make = "CREATE TABLE migrations (id BIGINT PRIMARY KEY, name TEXT)";
        match place {
            Place::File(file) => {
                std::fs::create_dir(file.parent().unwrap()).unwrap();
                rusqlite::Connection::open(file).unwrap().execute_batch(make).unwrap();
            }
            Place::Server(server) => drop(server.psql(make)),
        }
        let store = place.store(FACTS);
        let other = tempfile::tempdir().unwrap();
        let source = Place::File(&other.path().join("store.db")).store(FACTS);
        put(&source, "a", "1").await.unwrap();
        for refused in [
            said(put(&store, "a", "1").await),
            said(names(&store).await),
            said(store.statistics(&[FACTS]).await),
            said(source.move_to(&store, &[FACTS], |_| {}).await),
        ] {
            assert!(
                refused.contains("another program has made a table named migrations"),
                "{refused}"
            );
        }
    });
}

#[test]
fn a_missing_right_is_named() {
    let server = Server::start();
    let owners = in_postgres(&server.url(), FACTS);
    server.psql("CREATE ROLE guest LOGIN");
    let guests = || in_postgres(&server.url().replace("//postgres@", "//guest@"), FACTS);
    server.psql("CREATE TABLE facts (name TEXT)");
    let found = said(owners.find_obstacle(&[FACTS]));
    assert!(found.contains("another program has made a table named facts"), "{found}");
    server.psql("DROP TABLE facts");
    // In PostgreSQL before 15, everybody may make tables there.
    server.psql("REVOKE CREATE ON SCHEMA public FROM PUBLIC");
    let found = said(guests().find_obstacle(&[FACTS]));
    assert!(found.starts_with("the user in the URL may not create tables"), "{found}");
    assert!(found.contains("give it that right (GRANT)"), "{found}");

    event_loop::run(put(&owners, "a", "1")).unwrap().unwrap();
    let found = said(guests().find_obstacle(&[FACTS]));
    assert!(found.contains("permission denied for table migrations"), "{found}");
    server.psql("GRANT SELECT ON migrations TO guest; GRANT SELECT, INSERT ON facts TO guest");
    let found = said(guests().find_obstacle(&[FACTS]));
    assert!(found.contains("may not read and change all of the table"), "{found}");

    // A table that nobody may read is listed.
    server.psql("CREATE TABLE strange (id BIGINT); GRANT SELECT ON commits TO guest");
    let looked = event_loop::run(guests().statistics(&[FACTS])).unwrap().unwrap();
    let strange = looked.other_tables.iter().find(|table| table.name == "strange").unwrap();
    assert_eq!((strange.rows, strange.rows.to_string().as_str()), (Rows::Hidden, "not readable"));

    server.psql("GRANT ALL ON facts, commits TO guest");
    guests().find_obstacle(&[FACTS]).unwrap();
    event_loop::run(put(&guests(), "b", "2")).unwrap().unwrap();

    server.psql("ALTER ROLE guest SET default_transaction_read_only = on");
    let found = said(guests().find_obstacle(&[FACTS]));
    assert!(found.starts_with("the database server only reads"), "{found}");
    let found = said(event_loop::run(put(&guests(), "b", "3")).unwrap());
    assert!(found.contains("read-only transaction"), "{found}");
}
