//! What is kept in memory, and what works on its own.

use std::fs;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use dashmap::DashMap;
use notify::Watcher;
use tokio::sync::Notify;
use tokio_cron_scheduler::{Job, JobScheduler};

use crate::case::{Answer, MadeRouter, handler, made};

pub(crate) fn moka() -> MadeRouter {
    handler(async || -> Answer {
        let cache = moka::sync::Cache::builder().max_capacity(8);
        let cache = cache.time_to_live(Duration::from_secs(60)).build();
        let sum: u32 = cache.get_with("sum", || 42);
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn moka_future() -> MadeRouter {
    handler(async || -> Answer {
        let cache = moka::future::Cache::builder().max_capacity(8);
        let cache = cache.time_to_live(Duration::from_secs(60)).build();
        let sum: u32 = cache.get_with("sum", async { 42 }).await;
        Ok(format!("sum {sum}"))
    })
}

pub(crate) fn dashmap() -> MadeRouter {
    let count = get(async |State(map): State<Arc<DashMap<&str, u32>>>| {
        let mut visits = map.entry("visits").or_default();
        *visits += 1;
        format!("visit {}", *visits)
    });
    made(async { Ok(Router::new().route("/", count).with_state(Arc::default())) })
}

pub(crate) fn cron() -> MadeRouter {
    made(async {
        let rang = Arc::new(Notify::new());
        let bell = Arc::clone(&rang);
        let scheduler = JobScheduler::new().await?;
        let job = Job::new("* * * * * *", move |_, _| bell.notify_one())?;
        scheduler.add(job).await?;
        scheduler.start().await?;
        let page = get(async |State(rang): State<Arc<Notify>>| -> Answer {
            tokio::time::timeout(Duration::from_secs(5), rang.notified()).await?;
            Ok("it rang".to_owned())
        });
        Ok(Router::new().route("/", page).with_state(rang))
    })
}

pub(crate) fn notify() -> MadeRouter {
    handler(async || -> Answer {
        let folder = tempfile::tempdir()?;
        let (send, changes) = mpsc::channel();
        let mut watcher = notify::recommended_watcher(send)?;
        watcher.watch(folder.path(), notify::RecursiveMode::NonRecursive)?;
        fs::write(folder.path().join("new"), "")?;
        let change = changes.recv_timeout(Duration::from_secs(3))??;
        Ok(format!("changed: {:?}", change.kind))
    })
}

pub(crate) fn smol() -> MadeRouter {
    handler(async || -> Answer {
        smol::Timer::after(Duration::from_millis(20)).await;
        Ok("waited".to_owned())
    })
}

pub(crate) fn futures_timer() -> MadeRouter {
    handler(async || -> Answer {
        futures_timer::Delay::new(Duration::from_millis(20)).await;
        Ok("waited".to_owned())
    })
}
