//! A primary that fails or is demoted, and the server that takes its place.

use std::time::{Duration, Instant};

use event_loop::time::{sleep, timeout};
use postgres_fixture::Server;
use storage::StoreError;

use crate::outages::{FACTS, add, count};
use crate::proxy::{Cut, Cuts, proxy, url};
use crate::{in_postgres, names};

/// How long a store takes to find the new primary.
const FOUND: Duration = Duration::from_secs(3);

const READ_ONLY: &str = "default_transaction_read_only";

/// Servers that need not know each other.
fn url_of(servers: &[&Server]) -> String {
    let places: Vec<_> = servers.iter().map(|it| (it.socket_folder(), it.port())).collect();
    url(&places)
}

/// Whether it had reached the primary (and so the standby) or not: it is done once.
#[test]
fn what_became_of_a_broken_commit_is_found_out_at_the_new_primary() {
    for commit in [Cut::Before("COMMIT\0"), Cut::After("COMMIT\0")] {
        let mut primary = Server::start();
        let standby = primary.standby();
        primary.replicate_synchronously();
        event_loop::run(async {
            let (folder, cuts) = (tempfile::tempdir().unwrap(), Cuts::default());
            proxy(&primary, folder.path(), cuts.clone(), None);
            let places =
                [(folder.path(), primary.port()), (standby.socket_folder(), standby.port())];
            let store = in_postgres(&url(&places), FACTS);
            add(&store, "first").await.unwrap();

            // No fence reaches the old primary.
            cuts.borrow_mut().extend([commit].into_iter().chain([Cut::Before("TRUE)"); 100]));
            let writer = store.clone();
            let second = event_loop::spawn(async move { add(&writer, "second").await });
            while cuts.borrow().len() > 99 {
                sleep(Duration::from_millis(1)).await;
            }
            let is_there = matches!(commit, Cut::After(_));
            let there = "SELECT count(*) FROM facts WHERE name = 'second'";
            assert_eq!(standby.psql(there) == "1", is_there, "{commit:?}");
            primary.kill();
            standby.promote();
            cuts.borrow_mut().clear();
            let second = timeout(FOUND, second).await.expect("it finds the new primary");
            assert_eq!(second.unwrap(), 1, "{commit:?}");
            assert_eq!(names(&store).await.unwrap(), ["first", "second"], "{commit:?}");
            let fences = "SELECT count(*) FROM commits WHERE is_fence";
            assert_eq!(standby.psql(fences) == "0", is_there, "{commit:?}");
        })
        .unwrap();
    }
}

/// It may be committed on the primary only, and lost with it.
#[test]
fn a_broken_commit_is_not_acknowledged_before_the_standby_has_it() {
    let primary = Server::start();
    let mut standby = primary.standby();
    primary.replicate_synchronously();
    event_loop::run(async {
        let store = in_postgres(&url_of(&[&primary, &standby]), FACTS);
        add(&store, "first").await.unwrap();
        let break_the_commit = async || {
            let waits = "FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
            while primary.psql(&format!("SELECT count(*) {waits}")) == "0" {
                sleep(Duration::from_millis(5)).await;
            }
            primary.psql(&format!("SELECT pg_terminate_backend(pid) {waits}"));
        };

        // It comes back in time.
        standby.kill();
        let writer = store.clone();
        let mut second = event_loop::spawn(async move { add(&writer, "second").await });
        break_the_commit().await;
        let early = timeout(Duration::from_secs(1), &mut second).await;
        assert!(early.is_err(), "it is acknowledged, and only the primary has it");
        standby.start_again();
        assert_eq!(second.await.unwrap(), 1);
        assert_eq!(standby.psql("SELECT count(*) FROM facts"), "2");

        // It does not.
        standby.kill();
        let writer = store.clone();
        let third = event_loop::spawn(async move { add(&writer, "third").await });
        break_the_commit().await;
        let started = Instant::now();
        let error = third.await.unwrap_err();
        assert!(matches!(error, StoreError::Uncertain), "{error}");
        assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    })
    .unwrap();
}

/// Its connections stay open, and it still answers.
#[test]
fn a_server_that_becomes_read_only_is_left_for_the_one_that_writes() {
    // Servers before PostgreSQL 14 do not say it.
    for hidden in [None, Some(READ_ONLY)] {
        let (old, new) = (Server::start(), Server::start());
        event_loop::run(async {
            let folder = tempfile::tempdir().unwrap();
            proxy(&old, folder.path(), Cuts::default(), hidden);
            let places = [(folder.path(), old.port()), (new.socket_folder(), new.port())];
            let store = in_postgres(&url(&places), FACTS);
            let add_some = async |names: [&str; 3]| {
                let writes = names.map(|name| {
                    let (store, name) = (store.clone(), name.to_owned());
                    event_loop::spawn(async move { add(&store, &name).await })
                });
                for write in writes {
                    assert_eq!(write.await.unwrap(), 1);
                }
            };
            add_some(["1", "2", "3"]).await;
            assert_eq!(old.psql("SELECT count(*) FROM facts"), "3");
            old.set(READ_ONLY, "on");
            // What it says may be old. If it does not say so, only a write finds out.
            if hidden.is_none() {
                assert_eq!(count(&store).await.unwrap(), 0, "of the new one");
            }
            add_some(["4", "5", "6"]).await;
            assert_eq!(names(&store).await.unwrap(), ["4", "5", "6"]);
            let connections =
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'toolshed'";
            sleep(Duration::from_millis(100)).await;
            assert_eq!(old.psql(connections), "0", "the others are closed, too");

            // While nobody writes, that is the error; and over when one does.
            new.set(READ_ONLY, "on");
            let error = add(&store, "7").await.unwrap_err();
            assert!(error.to_string().contains("is read-only"), "{error}");
            old.set(READ_ONLY, "off");
            let back = async {
                while add(&store, "8").await.is_err() {
                    sleep(Duration::from_millis(20)).await;
                }
            };
            timeout(FOUND, back).await.expect("it finds the one that writes");
            assert_eq!(old.psql("SELECT count(*) FROM facts"), "4");
        })
        .unwrap();
    }
}
