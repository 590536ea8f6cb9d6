//! PostgreSQL that goes away: what is lost, what is repeated, and what is said.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use event_loop::time::{sleep, timeout};
use postgres_fixture::{PASSWORD, Server, Shutdown};
use storage::{DatabaseUrl, Migration, Schema, Store, StoreError, params};

use crate::proxy::{Cut, Cuts, proxy, url};
use crate::{in_postgres, names, put, said};

pub(crate) const FACTS: Schema = Schema {
    name: "facts",
    migrations: &[Migration::expand(
        "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    )],
};

fn with_server(test: impl AsyncFn(&mut Server)) {
    let mut server = Server::start();
    event_loop::run(test(&mut server)).unwrap();
}

pub(crate) async fn count(store: &Store) -> Result<i64, StoreError> {
    let count = "SELECT count(*) FROM facts";
    store.read(async |store| store.query_one(count, &[]).await).await
}

/// A name that is there already would be refused.
pub(crate) async fn add(store: &Store, name: &str) -> Result<u64, StoreError> {
    let add = "INSERT INTO facts (name, value) VALUES ($1, '')";
    store.write(async |store| store.execute(add, params![name]).await).await
}

#[test]
fn a_connection_that_breaks_during_commit_loses_nothing_and_repeats_nothing() {
    with_server(async |server| {
        let folder = tempfile::tempdir().unwrap();
        let cuts = Cuts::default();
        proxy(server, folder.path(), cuts.clone(), None);
        let store = in_postgres(&url(&[(folder.path(), server.port())]), FACTS);
        add(&store, "first").await.unwrap();
        let (commit, fence) = ("COMMIT\0", "TRUE) ON CONFLICT");
        let all: [&[Cut]; 5] = [
            &[Cut::Before(commit)],
            &[Cut::After(commit)],
            &[Cut::Before(commit), Cut::Before(fence)],
            &[Cut::Before(commit), Cut::After(fence)],
            &[Cut::After(commit), Cut::After(fence), Cut::After(fence)],
        ];
        for (number, next) in all.into_iter().enumerate() {
            cuts.borrow_mut().extend(next);
            assert_eq!(add(&store, &number.to_string()).await.unwrap(), 1, "{next:?}");
            assert!(cuts.borrow().is_empty(), "{next:?}");
        }
        assert_eq!(names(&store).await.unwrap(), ["0", "1", "2", "3", "4", "first"]);
    });
}

#[test]
fn after_a_restart_of_the_server_nothing_has_to_be_done() {
    with_server(async |server| {
        let store = in_postgres(&server.url(), FACTS);
        for (round, how) in [Shutdown::Fast, Shutdown::Immediate].into_iter().enumerate() {
            put(&store, &format!("before {round}"), "").await.unwrap();
            server.stop(how);
            let started = Instant::now();
            let error = count(&store).await.unwrap_err();
            assert!(matches!(error, StoreError::Unreachable(_)), "{error}");
            assert!(error.to_string().contains("check that it runs"), "{error}");
            assert!(started.elapsed() < Duration::from_secs(2), "it fails at once");
            server.start_again();
            let back = async {
                while count(&store).await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(Duration::from_secs(10), back).await.expect("it does not come back");
            put(&store, &format!("after {round}"), "").await.unwrap();
        }
        // Every one of several idle connections is lost; no request notices.
        let counts = (0..4).map(|_| {
            let store = store.clone();
            event_loop::spawn(async move { count(&store).await.unwrap() })
        });
        for count in counts.collect::<Vec<_>>() {
            assert_eq!(count.await, 4);
        }
        server.stop(Shutdown::Fast);
        server.start_again();
        for _ in 0..4 {
            assert_eq!(count(&store).await.unwrap(), 4);
        }
    });
}

/// Every write that was acknowledged is there, none is there that was refused, while the server is stopped and killed.
#[test]
fn what_was_acknowledged_under_load_is_there_after_restarts_and_nothing_twice() {
    const WRITERS: usize = 6;
    let mut server = Server::start_with(&["fsync=on", "synchronous_commit=on"]);
    event_loop::run(async {
        let (url, is_over) = (server.url(), Rc::new(Cell::new(false)));
        let write = |writer: usize| {
            let (url, is_over) = (url.clone(), is_over.clone());
            async move {
                let store = in_postgres(&url, FACTS);
                let (mut acknowledged, mut uncertain, mut number) = (Vec::new(), Vec::new(), 0);
                while !is_over.get() {
                    number += 1;
                    let name = format!("{writer}-{number}");
                    match add(&store, &name).await {
                        Ok(1) => acknowledged.push(name),
                        Ok(other) => panic!("{other} rows"),
                        Err(StoreError::Uncertain) => uncertain.push(name),
                        // Twice the same row would be such an error.
                        Err(error) if error.is_constraint() => panic!("{name}: {error}"),
                        Err(_) => sleep(Duration::from_millis(10)).await,
                    }
                }
                (acknowledged, uncertain)
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|writer| event_loop::spawn(write(writer))).collect();
        for how in [Shutdown::Fast, Shutdown::Immediate, Shutdown::Immediate, Shutdown::Fast] {
            sleep(Duration::from_millis(400)).await;
            server.stop(how);
            server.start_again();
        }
        sleep(Duration::from_millis(400)).await;
        is_over.set(true);
        let store = in_postgres(&url, FACTS);
        let (mut acknowledged, mut uncertain) = (Vec::new(), Vec::new());
        for writer in writers {
            let (more, unclear) = writer.await;
            acknowledged.extend(more);
            uncertain.extend(unclear);
        }
        let found = names(&store).await.unwrap();
        let lost: Vec<_> = acknowledged.iter().filter(|name| !found.contains(name)).collect();
        assert!(lost.is_empty(), "of {} were lost: {lost:?}", acknowledged.len());
        let unexplained: Vec<_> = found
            .iter()
            .filter(|name| !acknowledged.contains(name) && !uncertain.contains(name))
            .collect();
        assert!(unexplained.is_empty(), "are there though they were refused: {unexplained:?}");
        assert!(acknowledged.len() > 100, "only {}", acknowledged.len());
    })
    .unwrap();
}

#[test]
fn a_slow_statement_is_stopped_and_named() {
    with_server(async |server| {
        let url = format!("{}?options=-c%20statement_timeout%3D100", server.url());
        let store = in_postgres(&url, FACTS);
        let slow = "SELECT pg_sleep(60) IS NULL";
        let error =
            store.read(async |store| store.query::<bool>(slow, &[]).await).await.unwrap_err();
        assert!(error.to_string().contains("statement timeout") && !error.is_mistake(), "{error}");
        put(&store, "a", "1").await.unwrap();
    });
}

/// The owner of the site mends it, not the author of a tool.
#[test]
fn a_missing_permission_is_no_mistake_of_the_program() {
    with_server(async |server| {
        let owners = in_postgres(&server.url(), FACTS);
        count(&owners).await.unwrap();
        let role = "CREATE ROLE guest LOGIN";
        let make = owners.write(async |store| store.execute(role, &[]).await);
        make.await.unwrap();
        let guests = in_postgres(&server.url().replace("//postgres@", "//guest@"), FACTS);
        let refused = count(&guests).await.unwrap_err();
        assert!(!refused.is_mistake(), "{refused}");
        assert!(refused.to_string().contains("give it that right (GRANT)"), "{refused}");
    });
}

#[test]
fn errors_contain_neither_passwords_nor_values() {
    with_server(async |server| {
        let store = in_postgres(&server.tcp_url(), FACTS);
        let add = async || {
            let add = "INSERT INTO facts (name, value) VALUES ($1, 'a secret')";
            store.write(async |store| store.execute(add, params!["another secret"]).await).await
        };
        add().await.unwrap();
        let error = add().await.unwrap_err();
        assert!(error.is_constraint());
        let wrong = server.tcp_url().replace("@localhost", "x@localhost");
        let refused = in_postgres(&wrong, FACTS);
        for text in [
            error.to_string(),
            format!("{store:?} {refused:?}"),
            said(count(&refused).await),
            format!("{wrong}?nonsense=1").parse::<DatabaseUrl>().unwrap_err().to_string(),
        ] {
            assert!(!text.contains("secret") && !text.contains(PASSWORD), "{text}");
        }
    });
}
