//! What a command does on a loop, once all that needs none is done: the same in each runtime.

use std::pin::Pin;

use app_server::{Settings, Transport};

use crate::report::Failure;
use crate::runtime::Runtime;

type Outcome = Result<(), Failure>;

/// Work for a loop, and what happens with its outcome.
pub(crate) struct Job {
    /// What is served, if something is: then crashes are caught.
    served: Option<(Settings, Transport)>,
    work: Pin<Box<dyn Future<Output = Outcome>>>,
    finish: Box<dyn FnOnce(Outcome) -> Outcome>,
}

impl Job {
    pub(crate) fn new(work: impl Future<Output = Outcome> + 'static) -> Job {
        Job { served: None, work: Box::pin(work), finish: Box::new(|outcome| outcome) }
    }

    /// Serves.
    pub(crate) fn serve(
        settings: Settings,
        transport: Transport,
        work: impl Future<Output = Outcome> + 'static,
    ) -> Job {
        Job { served: Some((settings, transport)), ..Job::new(work) }
    }

    /// Sets what is done when it has ended.
    pub(crate) fn then(self, finish: impl FnOnce(Outcome) -> Outcome + 'static) -> Job {
        Job { finish: Box::new(finish), ..self }
    }

    /// Does it in a runtime of its own.
    pub(crate) fn run(self, runtime: Runtime) -> Outcome {
        let Job { served, work, finish } = self;
        let done = match (runtime, &served) {
            (Runtime::Bare, None) => event_loop::run(work).map_err(Failure::refused),
            (Runtime::Bare, Some((settings, transport))) => {
                app_server::run(settings, transport, work).map_err(Failure::from)
            }
            #[cfg(feature = "tokio")]
            (Runtime::Tokio, None) => event_loop::run_in_tokio(work).map_err(Failure::refused),
            #[cfg(feature = "tokio")]
            (Runtime::Tokio, Some((settings, transport))) => {
                app_server::run_in_tokio(settings, transport, work).map_err(Failure::from)
            }
        };
        finish(done.and_then(|outcome| outcome))
    }

    /// Does it in the tokio runtime that the caller is in.
    #[cfg(feature = "tokio")]
    pub(crate) async fn run_in_this_tokio(self) -> Outcome {
        let Job { served, work, finish } = self;
        let done = match &served {
            None => event_loop::run_in_this_tokio(work).await.map_err(Failure::refused),
            Some((settings, transport)) => app_server::run_in_this_tokio(settings, transport, work)
                .await
                .map_err(Failure::from),
        };
        finish(done.and_then(|outcome| outcome))
    }
}
