//! The public behavior of the crate. What concerns the whole process (signals, descriptors 0 to 2,
//! the number of threads) is in `tests/process_wide/`, which runs each case in a process of its own.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is the test's failure, in its helpers too")]
#![allow(clippy::async_yields_async, reason = "what outlives its loop is tested")]

mod executor;
mod network;
mod pipes;
mod streams;
mod timers;
#[cfg(feature = "tokio")]
mod tokio_host;

use std::future::Future;
use std::time::Duration;

/// Runs a test's future on a loop; fails if it hangs.
fn run<F: Future>(future: F) -> F::Output {
    event_loop::run(in_time(future)).unwrap()
}

/// Makes a future that hangs fail.
async fn in_time<F: Future>(future: F) -> F::Output {
    event_loop::time::timeout(Duration::from_secs(30), future).await.expect("the test hangs")
}

/// Lets ready tasks run for a few turns of the loop.
async fn settle() {
    for _ in 0..5 {
        event_loop::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn every_test_file_is_a_module() {
    let here = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration");
    let main = std::fs::read_to_string(here.join("main.rs")).unwrap();
    for file in std::fs::read_dir(here).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(
            module == "main" || main.contains(&format!("\nmod {module};")),
            "{name} is not a module of main.rs"
        );
    }
}
