//! Transactions: all or nothing, one after the other, and never twice.

use std::cell::Cell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

use event_loop::time::{sleep, timeout};
use postgres_fixture::Server;
use storage::{DatabaseUrl, Migration, Schema, Store, StoreError, Trust, params};

use crate::{Place, in_postgres, names, on_every_engine, put, said};

const FACTS: Schema = Schema {
    name: "facts",
    migrations: &[Migration::expand(
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    )],
};

#[test]
fn a_change_that_fails_changes_nothing() {
    on_every_engine(async |place| {
        let store = place.store(FACTS);
        put(&store, "a", "1").await.unwrap();
        let failed = store.write(async |store| {
            store.execute("DELETE FROM facts", &[]).await?;
            store.execute("no SQL", &[]).await
        });
        assert!(matches!(failed.await, Err(StoreError::Sql(_))));
        let refused: Result<(), _> = store
            .write(async |store| {
                store.execute("DELETE FROM facts", &[]).await?;
                Err(StoreError::Busy)
            })
            .await;
        assert!(matches!(refused, Err(StoreError::Busy)), "{refused:?}");
        assert_eq!(names(&store).await.unwrap(), ["a"]);
        put(&store, "b", "2").await.unwrap();
        assert_eq!(names(&place.store(FACTS)).await.unwrap(), ["a", "b"]);
    });
}

/// PostgreSQL would answer its COMMIT as if nothing were wrong.
#[test]
fn a_failed_statement_cannot_be_ignored() {
    on_every_engine(async |place| {
        let store = place.store(FACTS);
        let ignored = store.write(async |store| {
            store.execute("INSERT INTO facts (name, value) VALUES ('a', '1')", &[]).await?;
            let _ = store.execute("no SQL", &[]).await;
            Ok(())
        });
        let said = said(ignored.await);
        assert!(said.contains("a statement failed, and the transaction went on"), "{said}");
        assert_eq!(names(&store).await.unwrap(), [""; 0]);
    });
}

/// Each reads a number and writes the next one: of two at once, one has to start over.
#[test]
fn concurrent_changes_happen_one_after_the_other_and_each_once() {
    const TASKS: usize = 8;
    const EACH: usize = 25;
    on_every_engine(async |place| {
        put(&place.store(FACTS), "count", "0").await.unwrap();
        let runs = Rc::new(Cell::new(0));
        let increment = |store: Store, runs: Rc<Cell<usize>>| async move {
            for _ in 0..EACH {
                let done = store.write(async |store| {
                    runs.set(runs.get() + 1);
                    let find = "SELECT value FROM facts WHERE name = $1";
                    let count: String = store.query_one(find, params!["count"]).await?;
                    let next = (count.parse::<u64>().unwrap() + 1).to_string();
                    let set = "UPDATE facts SET value = $2 WHERE name = $1";
                    store.execute(set, params!["count", next]).await
                });
                assert_eq!(done.await.unwrap(), 1);
            }
        };
        // Two handles, as two processes would have.
        let stores = [place.store(FACTS), place.store(FACTS)];
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| event_loop::spawn(increment(stores[task % 2].clone(), runs.clone())))
            .collect();
        for task in tasks {
            task.await;
        }
        let find = "SELECT value FROM facts WHERE name = 'count'";
        let count = stores[0].read(async |store| store.query_one::<String>(find, &[]).await);
        assert_eq!(count.await.unwrap(), (TASKS * EACH).to_string());
        match place {
            Place::File(_) => {
                assert_eq!(runs.get(), TASKS * EACH, "a change that has begun is alone")
            }
            Place::Server(_) => assert!(runs.get() > TASKS * EACH, "there were no conflicts"),
        }
    });
}

#[test]
fn a_read_is_one_snapshot() {
    on_every_engine(async |place| {
        let (store, other) = (place.store(FACTS), place.store(FACTS));
        put(&store, "a", "1").await.unwrap();
        let count = "SELECT count(*) FROM facts";
        let Place::Server(_) = place else { return };
        let seen = store.read(async |store| {
            let before: i64 = store.query_one(count, &[]).await?;
            put(&other, "b", "2").await?;
            let after: i64 = store.query_one(count, &[]).await?;
            Ok((before, after))
        });
        assert_eq!(seen.await.unwrap(), (1, 1));
        assert_eq!(names(&store).await.unwrap(), ["a", "b"]);
    });
}

/// The visitor has left: the future is dropped in the middle.
#[test]
fn a_dropped_change_changes_nothing_and_holds_nothing() {
    on_every_engine(async |place| {
        let store = place.store(FACTS);
        put(&store, "a", "1").await.unwrap();
        let Place::Server(server) = place else { return };
        for _ in 0..10 {
            let forever = store.write(async |store| {
                store.execute("UPDATE facts SET value = 'changed'", &[]).await?;
                pending::<()>().await;
                Ok(())
            });
            assert!(timeout(Duration::from_millis(20), forever).await.is_err());
        }
        // Of a statement, too, which PostgreSQL would go on with.
        let slow =
            store.read(async |store| store.query::<bool>("SELECT pg_sleep(60) IS NULL", &[]).await);
        assert!(timeout(Duration::from_millis(100), slow).await.is_err());
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()
                        AND backend_type = 'client backend'";
        for _ in 0..200 {
            if server.psql(busy) == "0" {
                break;
            }
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(server.psql(busy), "0");
        put(&store, "b", "2").await.unwrap();
        let values = store.read(async |store| {
            store.query::<String>("SELECT value FROM facts ORDER BY name", &[]).await
        });
        assert_eq!(values.await.unwrap(), ["1", "2"]);
    });
}

/// The first use of many processes at once.
#[test]
fn tables_are_made_once_however_many_begin_at_once() {
    on_every_engine(async |place| {
        let first_use = |number: usize| {
            let store = place.store(FACTS);
            event_loop::spawn(async move { put(&store, &number.to_string(), "").await })
        };
        let uses: Vec<_> = (0..10).map(first_use).collect();
        for one in uses {
            one.await.unwrap();
        }
        assert_eq!(names(&place.store(FACTS)).await.unwrap().len(), 10);
    });
}

/// A program that uses its database in several places needs no more connections for that.
#[test]
fn stores_of_one_url_share_its_connections() {
    let server = Server::start();
    let url: DatabaseUrl = server.url().parse().unwrap();
    event_loop::run(async {
        let stores = [(); 2].map(|()| Store::in_postgres(&url.clone(), FACTS));
        for store in &stores {
            put(store, "a", "").await.unwrap();
        }
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'toolshed'";
        assert_eq!(server.psql(count), "1");
    })
    .unwrap();
}

#[test]
fn without_a_loop_postgres_is_a_mistake_that_is_named() {
    let store = in_postgres("postgres://nobody@127.0.0.1:1/none", FACTS);
    let mut reading = Box::pin(store.read(async |_| Ok(())));
    let waker = std::task::Waker::noop();
    match reading.as_mut().poll(&mut std::task::Context::from_waker(waker)) {
        std::task::Poll::Ready(result) => assert!(said(result).contains("no event loop")),
        std::task::Poll::Pending => panic!("it waits"),
    }
    drop(Store::in_file("/nowhere", Trust::default(), FACTS));
}
