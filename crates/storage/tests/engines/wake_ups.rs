//! Waking those who wait, in this process and in others.

use std::time::{Duration, Instant};

use event_loop::time::{sleep, timeout};
use postgres_fixture::{Server, Shutdown};
use storage::{Migration, Schema, Store};

use crate::{in_postgres, on_every_engine};

const QUEUE: Schema = Schema {
    name: "queue",
    migrations: &[Migration::expand("CREATE TABLE queue_jobs (id BIGINT PRIMARY KEY)")],
};

async fn wake(store: &Store, topic: &str) {
    store.write(async |store| store.wake(topic).await).await.unwrap();
}

#[test]
fn a_wake_up_reaches_other_processes_and_only_its_topic() {
    on_every_engine(async |place| {
        let (waits, wakes) = (place.store(QUEUE), place.store(QUEUE));
        let mut wake_ups = waits.wake_ups("queue \"new\"");
        // The first one is for what was there before.
        timeout(Duration::from_secs(5), wake_ups.woken()).await.expect("it returns at once");
        for round in 0..3 {
            wake(&wakes, "another topic").await;
            let waiting = timeout(Duration::from_millis(1200), wake_ups.woken()).await;
            assert!(waiting.is_err(), "{round}: nobody has woken it");
            wake(&wakes, "queue \"new\"").await;
            let started = Instant::now();
            timeout(Duration::from_secs(5), wake_ups.woken()).await.expect("it is woken");
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        }
    });
}

#[test]
fn a_transaction_that_fails_wakes_nobody() {
    on_every_engine(async |place| {
        let store = place.store(QUEUE);
        let mut wake_ups = store.wake_ups("queue");
        wake_ups.woken().await;
        let failed = store.write(async |store| {
            store.wake("queue").await?;
            store.execute("no SQL", &[]).await
        });
        assert!(failed.await.is_err());
        assert!(timeout(Duration::from_millis(1200), wake_ups.woken()).await.is_err());
    });
}

#[test]
fn waiting_survives_a_restart_of_the_server() {
    let mut server = Server::start();
    event_loop::run(async {
        let store = in_postgres(&server.url(), QUEUE);
        let mut wake_ups = store.wake_ups("queue");
        wake_ups.woken().await;
        server.stop(Shutdown::Fast);
        // The lost connection, then once a second.
        for _ in 0..3 {
            timeout(Duration::from_secs(5), wake_ups.woken()).await.expect("it returns");
        }
        server.start_again();
        sleep(Duration::from_millis(1100)).await;
        // Until it listens again.
        while timeout(Duration::from_millis(500), wake_ups.woken()).await.is_ok() {}
        wake(&store, "queue").await;
        timeout(Duration::from_secs(5), wake_ups.woken()).await.expect("it is woken");
    })
    .unwrap();
}
