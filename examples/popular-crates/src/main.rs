//! One route for each of many popular crates, each of which really uses it: what docs/popular-crates.md is made of.
//!
//! `table.rs` lists them, `cases/` has their routes, `case.rs` says what one is. `tests/src/bin/tries_crates.rs` starts this
//! program once per case and way of serving, and writes down what happens.
//!
//! Variables: `TRY_CASE` is the only case to make (some start threads at once, which the others must not have); without it,
//! all are. `TRY_RUNTIME=bare` is our loop alone. `TRY_HTTP`, `TRY_MAIL`, `TRY_POSTGRES`, `TRY_REDIS` are servers.

mod case;
mod cases;
mod table;

use std::process::ExitCode;
use std::time::Duration;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use hosted::{Application, Runtime};

use crate::case::Problem;
use crate::table::GROUPS;

fn main() -> ExitCode {
    let is_bare = std::env::var_os("TRY_RUNTIME").is_some_and(|runtime| runtime == "bare");
    let runtime = if is_bare { Runtime::Bare } else { Runtime::Tokio };
    Application::new(router).name("popular-crates").runtime(runtime).main()
}

/// Makes the case that was asked for, or all.
async fn router() -> Result<Router, Problem> {
    let wanted = std::env::var("TRY_CASE").ok();
    let is_wanted = |name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
    let mut router = Router::new().route("/", get(async || Json(table::description())));
    // In flight while the program reloads.
    let wait = async |Path(milliseconds): Path<u64>| {
        event_loop::time::sleep(Duration::from_millis(milliseconds)).await;
    };
    router = router.route("/wait/{milliseconds}", get(wait));
    let cases = GROUPS.iter().flat_map(|group| group.cases);
    for case in cases.filter(|case| is_wanted(case.name)) {
        router = router.nest(&format!("/{}", case.name), (case.router)().await?);
    }
    Ok(router)
}
