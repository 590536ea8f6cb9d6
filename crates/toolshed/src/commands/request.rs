//! `toolshed request METHOD PATH`: one exchange with the site, without a server, printed.
//!
//! What a visitor would get stands on standard output; the messages that would be in the log, so the cause
//! of a failure too, on standard error.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use clap::Args;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::right_settings;
use crate::config::Typed;
use crate::report::Failure;
use crate::{application, log};

/// Print the site's answer to one request, without a server.
#[derive(Debug, Args)]
#[command(after_help = "What the log would have goes to standard error.\n\
                  Exit codes: 0 answered, 4 or 5 answered with a status of 4xx or 5xx.\n\
                  Example: toolshed request GET /healthz")]
pub(crate) struct Request {
    /// GET, POST, …
    #[arg(value_name = "METHOD")]
    method: String,
    /// Below the site's address, with its query: /tools/checksum?alg=md5
    #[arg(value_name = "PATH")]
    path: String,
    /// Send this header; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// Send this file, or standard input (-).
    #[arg(long, value_name = "FILE")]
    body: Option<PathBuf>,
}

/// Asks and prints.
pub(crate) fn run(typed: &Typed, flags: &Request) -> Result<(), Failure> {
    let configuration = right_settings(typed)?;
    let request = request(flags)?;
    site::store::trust_the_owner_of_data();
    log::to_stderr();
    log::configuration(&configuration);
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(Failure::refused)?;
    let server = application::server_settings(&configuration.settings);
    let answered = app_server::request(
        application::site_for_the_owner(configuration),
        request,
        output,
        server,
    );
    if io::stdout().is_terminal() {
        // The shell's prompt begins a line.
        let _ = writeln!(io::stdout());
    }
    match answered {
        Ok(status) if status.is_client_error() => Err(Failure::silent(4)),
        Ok(status) if status.is_server_error() => Err(Failure::silent(5)),
        Ok(_) => Ok(()),
        // `toolshed request … | head`
        Err(app_server::Error::Answer(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The request as the site gets it.
fn request(flags: &Request) -> Result<http::Request<Option<OwnedFd>>, Failure> {
    let body = flags.body.as_deref().map(open).transpose()?;
    let length = body.as_ref().and_then(length);
    let mut request = http::Request::new(body.map(OwnedFd::from));
    *request.method_mut() = Method::from_bytes(flags.method.as_bytes())
        .map_err(|_| Failure::wrong(format!("{:?} is no method.", flags.method)))?;
    *request.uri_mut() = uri(&flags.path)?;
    let headers = request.headers_mut();
    for line in &flags.headers {
        add(headers, line)?;
    }
    headers.entry(HOST).or_insert(HeaderValue::from_static("localhost"));
    if let Some(length) = length {
        headers.entry(CONTENT_LENGTH).or_insert(length.into());
    }
    Ok(request)
}

fn uri(path: &str) -> Result<Uri, Failure> {
    let wrong = |why: &str| {
        Failure::wrong(format!("{path:?} is no path{why}."))
            .hint("Write it as it stands in the site's addresses, such as /tools/checksum?alg=md5.")
    };
    if !path.starts_with('/') {
        return Err(wrong(": it does not begin with /"));
    }
    path.parse::<PathAndQuery>().map(Uri::from).map_err(|error| wrong(&format!(": {error}")))
}

fn add(headers: &mut HeaderMap, line: &str) -> Result<(), Failure> {
    let parsed = line.split_once(':').and_then(|(name, value)| {
        let name = name.trim().parse::<HeaderName>().ok()?;
        Some((name, value.trim().parse::<HeaderValue>().ok()?))
    });
    let Some((name, value)) = parsed else {
        return Err(Failure::wrong(format!("{line:?} is no header."))
            .hint("Write NAME: VALUE, such as -H 'Accept: application/json'."));
    };
    headers.append(name, value);
    Ok(())
}

fn open(path: &Path) -> Result<File, Failure> {
    let file = if path == Path::new("-") {
        io::stdin().as_fd().try_clone_to_owned().map(File::from)
    } else {
        File::open(path)
    };
    file.map_err(|error| {
        Failure::refused(format!("The body {} cannot be read: {error}.", path.display()))
    })
}

/// The length of a file that has one.
fn length(file: &File) -> Option<u64> {
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some(metadata.len())
}
