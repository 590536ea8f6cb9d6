//! error: a router needs `.with_state(…)`, and a handler needs a router: `fn() -> impl Future<Output = &'static str> {server_with_handler::hello}` is not a service
//! label: not a `Service` of `http::Request<app_server::Body>`
//! note: a handler is put into a router: `Router::new().route("/", get(handler))`

use app_server::{Error, Server, Transport};

async fn hello() -> &'static str {
    "Hello"
}

fn main() -> Result<(), Error> {
    Server::new(hello).run(Transport::Cgi)
}
