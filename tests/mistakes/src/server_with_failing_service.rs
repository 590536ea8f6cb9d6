//! error: make a response of `std::io::Error`: a service must not fail
//! label: a service that may fail with `std::io::Error`
//! note: in axum, `HandleError::new(service, handler)` and `HandleErrorLayer` make responses of errors

use app_server::{Error, Server, Transport};

use crate::parts::Failing;

fn main() -> Result<(), Error> {
    Server::new(Failing).run(Transport::Cgi)
}
