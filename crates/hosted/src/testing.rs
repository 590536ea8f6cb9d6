//! For tests of an application.

/// Runs a test's future in the runtime that serves an [`Application`](crate::Application) by default, and returns its output.
/// `#[tokio::test]` has no event loop: there, a store panics as soon as it has to wait, such as for a wake-up.
///
/// ```
/// let sum = hosted::testing::run(async { 20 + 22 });
/// assert_eq!(sum, 42);
/// ```
///
/// # Panics
///
/// If the future panics, or there is no runtime: in a future that is run already, or where the system refuses a descriptor.
pub fn run<F: Future>(test: F) -> F::Output {
    #[cfg(feature = "tokio")]
    let output = event_loop::run_in_tokio(test);
    #[cfg(not(feature = "tokio"))]
    let output = event_loop::run(test);
    output.unwrap_or_else(|error| panic!("no runtime for a test: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(1);

    #[test]
    fn what_waits_comes_to_an_end() {
        run(event_loop::time::sleep(MOMENT));
        #[cfg(feature = "tokio")]
        run(async { tokio::time::sleep(MOMENT).await });
    }

    #[cfg(feature = "store")]
    #[test]
    fn a_store_may_wait() {
        let folder = tempfile::tempdir().unwrap();
        run(waits_for_a_wake_up(folder.path()));
    }

    #[cfg(feature = "store")]
    async fn waits_for_a_wake_up(folder: &std::path::Path) {
        let schema = storage::Schema { name: "a", migrations: &[] };
        let store = storage::Store::in_file(folder.join("a.db"), Default::default(), schema);
        let mut wake_ups = store.wake_ups("a");
        wake_ups.woken().await; // The first one is for what was there before.
        store.write(async |store| store.wake("a").await).await.unwrap();
        wake_ups.woken().await;
    }
}
