//! The command line as it may be typed. What it means is `commands/`' business.

use std::path::PathBuf;

use app_server::Address;
use clap::{Args, Parser, Subcommand};

/// Where `serve` listens unless told otherwise: this machine alone can reach it.
pub(crate) const SERVE_ADDRESS: &str = "127.0.0.1:8080";

/// A tools site, and a server for it, for the hosting most people can afford.
#[derive(Debug, Parser)]
#[command(
    name = "toolshed",
    version,
    after_help = "Without a command: serves FastCGI when a web server started the program, else\n\
                  the same as `toolshed serve`."
)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Serve),
    Fastcgi(Fastcgi),
}

/// Serve the site over HTTP: to try it, to develop, behind a reverse proxy.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    /// Where to listen: HOST:PORT, or unix:PATH.
    #[arg(long, value_name = "ADDRESS", default_value = SERVE_ADDRESS, value_parser = http_address)]
    pub(crate) listen: Address,
    /// Append messages to this file instead of writing them to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

impl Default for Serve {
    fn default() -> Self {
        let Ok(listen) = http_address(SERVE_ADDRESS) else { unreachable!("it is a constant") };
        Serve { listen, log: None }
    }
}

/// Serve the site over FastCGI on a socket of its own: behind nginx, caddy, mod_proxy_fcgi.
#[derive(Debug, Args)]
pub(crate) struct Fastcgi {
    /// Where to listen: unix:PATH (only your account can connect), or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS", value_parser = fastcgi_address)]
    pub(crate) listen: Address,
    /// Append messages to this file instead of writing them to standard error.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
}

fn http_address(text: &str) -> Result<Address, String> {
    let address = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
    let with_kind = if address.starts_with("unix:") || address.starts_with("tcp:") {
        address.to_owned()
    } else {
        format!("tcp:{address}")
    };
    with_kind.parse().map_err(|_| format!("write HOST:PORT, such as {SERVE_ADDRESS}, or unix:PATH"))
}

fn fastcgi_address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error| format!("{error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds() {
        use clap::CommandFactory;
        Flags::command().debug_assert();
    }

    #[test]
    fn addresses_of_serve() {
        for text in ["127.0.0.1:80", "http://127.0.0.1:80/", "tcp:127.0.0.1:80"] {
            assert_eq!(http_address(text).unwrap().to_string(), "tcp:127.0.0.1:80", "{text}");
        }
        assert_eq!(http_address("unix:/a/b").unwrap().to_string(), "unix:/a/b");
        assert!(http_address("8080").is_err());
    }
}
