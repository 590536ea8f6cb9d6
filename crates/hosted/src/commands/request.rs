//! `request METHOD PATH`: prints the response to one request, without a server.
//!
//! What a visitor would get goes to standard output; what would be logged, including the cause of a failure, to
//! standard error. With `--as`, the request comes as a web server would pass it on.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use app_server::{BasePath, Server};
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::{Context, serving};
use crate::app::{App, By, Start, Surroundings};
use crate::config::CommandLine;
use crate::flags::RequestFlags;
use crate::job::Job;
use crate::late_service::make;
use crate::log;
use crate::report::Failure;

/// Sends the request and prints the response.
pub(crate) fn job<A: App>(
    context: &Context<A>,
    command_line: &CommandLine,
    flags: &RequestFlags,
) -> Result<Job, Failure> {
    let configuration = context.keys.load_valid(command_line)?;
    let request = request(flags)?;
    let base = flags.base.as_deref().map(base).transpose()?.unwrap_or_default();
    serving::name_node(&configuration.settings);
    log::to_stderr();
    log::configuration(&configuration);
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(Failure::refused)?;
    let settings = serving::server_settings(&configuration);
    let (app, front) = (Rc::clone(&context.app), flags.front);
    let host = Surroundings::of(&*app, &configuration.settings);
    let start = Start::new(configuration, By::Owner);
    Ok(Job::new(async move {
        let base_variable = settings.base_variable.clone();
        let service = make(&*app, start).await?;
        let server = Server::new(service).settings(settings).host(host);
        let answered = match front {
            None => server.answer(request, output).await,
            Some(front) => {
                let variables = front.variables(&request, base.as_str(), &base_variable);
                let variables = variables.iter().map(|(name, value)| (&**name, &**value));
                let body = request.into_body();
                server.answer_variables(variables, front.role(), body, output).await
            }
        };
        if io::stdout().is_terminal() {
            // The shell's prompt starts on a new line.
            let _ = writeln!(io::stdout());
        }
        exit_of(answered)
    }))
}

/// What the command's exit code says.
fn exit_of(answered: Result<StatusCode, app_server::Error>) -> Result<(), Failure> {
    match answered {
        Ok(status) if status.is_client_error() => Err(Failure::silent(4)),
        Ok(status) if status.is_server_error() => Err(Failure::silent(5)),
        Ok(_) => Ok(()),
        // `toolshed request … | head`
        Err(app_server::Error::Response(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The request as the site gets it.
fn request(flags: &RequestFlags) -> Result<http::Request<Option<OwnedFd>>, Failure> {
    let body = flags.body.as_deref().map(open).transpose()?;
    let length = body.as_ref().and_then(length);
    let mut request = http::Request::new(body.map(OwnedFd::from));
    *request.method_mut() = Method::from_bytes(flags.method.as_bytes())
        .map_err(|_| Failure::wrong(format!("Invalid method: {:?}.", flags.method)))?;
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
        Failure::wrong(format!("Invalid path {path:?}{why}."))
            .hint("Write it as in the site's URLs, such as /hello?name=Ann.")
    };
    if !path.starts_with('/') {
        return Err(wrong(": it does not start with /"));
    }
    path.parse::<PathAndQuery>().map(Uri::from).map_err(|error| wrong(&format!(": {error}")))
}

fn base(text: &str) -> Result<BasePath, Failure> {
    BasePath::from_setting(text).ok_or_else(|| {
        Failure::wrong(format!("Invalid folder: {text:?}."))
            .hint("Write it as in the site's URLs, such as /project.")
    })
}

fn add(headers: &mut HeaderMap, line: &str) -> Result<(), Failure> {
    let parsed = line.split_once(':').and_then(|(name, value)| {
        let name = name.trim().parse::<HeaderName>().ok()?;
        Some((name, value.trim().parse::<HeaderValue>().ok()?))
    });
    let Some((name, value)) = parsed else {
        return Err(Failure::wrong(format!("Invalid header: {line:?}."))
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
