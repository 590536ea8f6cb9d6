//! The statements that the store runs, for tests that compare them.

use std::cell::RefCell;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    /// The statements of this thread, while somebody wants them.
    static RUN: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// Calls a function; returns its result, and the statements that this thread ran meanwhile, in order.
pub(super) fn statements_of<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    static INSTALLED: Once = Once::new();
    // For all threads: if there is only the one of this thread, another thread that comes to a statement first disables
    // it for good (tracing-core 0.1, `Rebuilder::JustOne`).
    INSTALLED.call_once(|| tracing::subscriber::set_global_default(Statements).unwrap());
    RUN.set(Some(Vec::new()));
    let done = work();
    (done, RUN.take().unwrap_or_default())
}

struct Statements;

impl Subscriber for Statements {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("storage")
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Statements);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl Visit for Statements {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "sql" {
            RUN.with_borrow_mut(|run| run.as_mut().map(|run| run.push(value.to_owned())));
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
