//! The panic guard: runs the application's code under its request's mark, and turns a panic into an
//! error.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

use http_body::{Body as HttpBody, SizeHint};
use pin_project_lite::pin_project;

use crate::recovery::Mark;
use crate::recovery::panics;

pin_project! {
    /// A value that belongs to the application. All of its code, its destructor included, runs under the
    /// request's mark, and panics do not propagate.
    pub(crate) struct Foreign<T> {
        #[pin]
        value: Option<T>,
        mark: Mark,
    }

    impl<T> PinnedDrop for Foreign<T> {
        fn drop(this: Pin<&mut Self>) {
            this.end();
        }
    }
}

impl<T> Foreign<T> {
    pub(crate) fn new(value: T, mark: Mark) -> Self {
        Foreign { value: Some(value), mark }
    }

    /// Runs the value's code. The error is the panic's message; the value is dropped then.
    pub(crate) fn run<R>(
        mut self: Pin<&mut Self>,
        code: impl FnOnce(Pin<&mut T>) -> R,
    ) -> Result<R, String> {
        let this = self.as_mut().project();
        let Some(value) = this.value.as_pin_mut() else {
            return Err("polled again after its end".to_owned());
        };
        let outcome = catch(*this.mark, || code(value));
        if outcome.is_err() {
            self.end();
        }
        outcome
    }

    /// Drops the value. A panic here can no longer change the response.
    fn end(self: Pin<&mut Self>) {
        let mut this = self.project();
        if this.value.is_some()
            && let Err(panic) = catch(*this.mark, || this.value.set(None))
        {
            tracing::error!("The application panicked in a destructor: {panic}.");
            panics::log_backtrace("");
        }
    }
}

impl<B: HttpBody> Foreign<B> {
    pub(crate) fn is_end_stream(&self) -> bool {
        let is_end = |value: &B| catch(self.mark, || value.is_end_stream());
        self.value.as_ref().is_none_or(|value| is_end(value).unwrap_or(false))
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        let hint = |value: &B| catch(self.mark, || value.size_hint()).unwrap_or_default();
        self.value.as_ref().map_or_else(|| SizeHint::with_exact(0), hint)
    }
}

/// Runs application code under its request's mark; the error is the panic's message. State that a panic
/// leaves half done belongs to the application and is dropped: it borrows nothing of the server's.
pub(crate) fn catch<T>(mark: Mark, code: impl FnOnce() -> T) -> Result<T, String> {
    mark.run(|| {
        panics::expected(|| catch_unwind(AssertUnwindSafe(code))).map_err(|panic| {
            panics::symbolize(mark.symbolize());
            let message = panic
                .downcast_ref::<&str>()
                .map(|message| (*message).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_else(|| "a value that is not text".to_owned());
            panics::with_location(message)
        })
    })
}

#[cfg(test)]
mod tests {
    /// Backtraces are cut at the frames of this module.
    #[test]
    fn backtraces_know_this_module() {
        assert!(module_path!().starts_with(crate::recovery::panics::CATCHER));
    }
}
