//! Logs, traces, measurements.

use std::io::Write;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::{Tracer, TracerProvider};
use opentelemetry_sdk::trace::SdkTracerProvider;

use crate::case::{Answer, MadeRouter, handler, made};

pub(crate) fn tracing() -> MadeRouter {
    handler(async || -> Answer {
        tracing::info!(answer = 42, "A visitor was here.");
        Ok("logged".to_owned())
    })
}

pub(crate) fn log() -> MadeRouter {
    handler(async || -> Answer {
        log::info!("A visitor was here.");
        Ok("logged".to_owned())
    })
}

/// Most applications do this first.
pub(crate) fn tracing_subscriber() -> MadeRouter {
    made(async {
        tracing_subscriber::fmt().with_writer(std::io::stderr).try_init()?;
        Ok(Router::new().route("/", get("it is ours")))
    })
}

pub(crate) fn env_logger() -> MadeRouter {
    made(async {
        env_logger::try_init()?;
        Ok(Router::new().route("/", get("it is ours")))
    })
}

pub(crate) fn appender_non_blocking() -> MadeRouter {
    made(async {
        let folder = tempfile::tempdir()?.keep();
        let file = tracing_appender::rolling::daily(&folder, "app.log");
        let (writer, guard) = tracing_appender::non_blocking(file);
        std::mem::forget(guard);
        let page = get(async |State(mut writer): State<tracing_appender::non_blocking::NonBlocking>| -> Answer {
            writer.write_all(b"a line\n")?;
            Ok("written".to_owned())
        });
        Ok(Router::new().route("/", page).with_state(writer))
    })
}

pub(crate) fn appender() -> MadeRouter {
    handler(async || -> Answer {
        let folder = tempfile::tempdir()?;
        let mut file = tracing_appender::rolling::daily(folder.path(), "app.log");
        file.write_all(b"a line\n")?;
        Ok("written".to_owned())
    })
}

pub(crate) fn opentelemetry_batch() -> MadeRouter {
    made(async {
        let exporter = opentelemetry_stdout::SpanExporter::default();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).build();
        Ok(traced(provider))
    })
}

pub(crate) fn opentelemetry_simple() -> MadeRouter {
    made(async {
        let exporter = opentelemetry_stdout::SpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter).build();
        Ok(traced(provider))
    })
}

fn traced(provider: SdkTracerProvider) -> Router {
    let page = get(async |State(provider): State<SdkTracerProvider>| -> Answer {
        provider.tracer("popular-crates").in_span("a visit", |_| ());
        provider.force_flush()?;
        Ok("traced".to_owned())
    });
    Router::new().route("/", page).with_state(provider)
}

pub(crate) fn prometheus() -> MadeRouter {
    made(async {
        let handle = PrometheusBuilder::new().install_recorder()?;
        let page = get(async |State(handle): State<PrometheusHandle>| {
            metrics::counter!("visits").increment(1);
            handle.render()
        });
        Ok(Router::new().route("/", page).with_state(handle))
    })
}
