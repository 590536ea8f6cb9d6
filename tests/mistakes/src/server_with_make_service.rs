//! error: leave out `.into_make_service()`, or answer with an `http::Response`: `Router` is not a response
//! label: a service that answers with `Router`

use app_server::{Error, Server, Transport};
use axum::{Router, routing::get};

fn main() -> Result<(), Error> {
    let router: Router = Router::new().route("/", get(|| async { "Hello" }));
    Server::new(router.into_make_service()).run(Transport::Cgi)
}
