//! error: a router needs `.with_state(…)`, and a handler needs a router: `impl Future<Output = &'static str>` is not a service
//! label: has to return a service (such as `Router`), or a `Result` with one, or a future of these
//! note: a handler is put into a router: `Router::new().route("/", get(handler))`

async fn hello() -> &'static str {
    "Hello"
}

fn main() -> std::process::ExitCode {
    hosted::main(hello)
}
