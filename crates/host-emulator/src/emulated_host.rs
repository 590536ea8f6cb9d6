//! One request on an emulated host, from the host's own refusals to the program's response.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use app_server::Body;
use bytes::{Bytes, BytesMut};
use event_loop::Task;
use http::header::CONTENT_LENGTH;
use http::{Request, Response};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use tower_service::Service;

use crate::fastcgi::FastCgiRequest;
use crate::installation::{Describe, Emulated, Installation, Variables};
use crate::limits::ProcessLimits;
use crate::log_follower;
use crate::processes::{Lease, Processes};
use crate::refusal::Refusal;
use crate::response::{EmulatedBody, Output, Source};
use crate::rules::{Directive, Host, Rules};
use crate::script::Script;

/// A host that is emulated, with the processes on it. Needs a loop of `event-loop` on this thread.
pub struct Emulator {
    host: EmulatedHost,
    /// Ends with this value.
    _following: Option<Task<()>>,
}

impl Emulator {
    /// Installs the program in a temporary folder, which is removed at the end. No process is started before the first
    /// request.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written.
    pub fn begin(emulated: Emulated, rules: Rules) -> io::Result<Emulator> {
        let memory = rules.get(Directive::PMEM);
        let limits = memory.map(|mebibytes| ProcessLimits::new(mebibytes << 20)).transpose()?;
        let refuses_threads = limits.is_some();
        let installation = Rc::new(Installation::new(&emulated, limits)?);
        let processes = match rules.host() {
            Host::ModFcgid | Host::CloudLinux => {
                Some(Processes::new(installation.clone(), rules.clone()))
            }
            Host::Cgi => None,
        };
        let following =
            emulated.log.map(|log| event_loop::spawn(log_follower::follow(log, refuses_threads)));
        let describe = emulated.variables;
        let in_flight = Rc::default();
        let shared = Rc::new(Shared { installation, rules, processes, describe, in_flight });
        Ok(Emulator { host: EmulatedHost { shared }, _following: following })
    }

    /// Returns the service that answers requests as the host would.
    pub fn service(&self) -> EmulatedHost {
        self.host.clone()
    }

    /// Touches the launcher, by which processes reload: a new version is checked, and takes over.
    ///
    /// # Errors
    ///
    /// If the launcher cannot be written.
    pub fn touch(&self) -> io::Result<()> {
        self.host.shared.installation.touch()
    }

    /// Ends all processes, as the web server does when it stops: SIGTERM, and SIGKILL 4 s later.
    pub async fn end(&self) {
        if let Some(processes) = &self.host.shared.processes {
            processes.end().await;
        }
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Emulator").field("rules", &self.host.shared.rules).finish()
    }
}

/// Answers requests as the host would.
#[derive(Clone)]
pub struct EmulatedHost {
    shared: Rc<Shared>,
}

impl fmt::Debug for EmulatedHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("EmulatedHost").field("rules", &self.shared.rules).finish()
    }
}

struct Shared {
    installation: Rc<Installation>,
    rules: Rules,
    /// `None` where each request has a process of its own.
    processes: Option<Processes>,
    /// The variables of a request.
    describe: Describe,
    /// As many references as requests are in flight, and one.
    in_flight: Rc<()>,
}

impl Service<Request<Body>> for EmulatedHost {
    type Response = Response<EmulatedBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        Box::pin(async move {
            let target = format!("{} {}", request.method(), request.uri().path());
            let answered = shared.answer(request, &target).await;
            Ok(answered.unwrap_or_else(|refusal| {
                let status = refusal.status().as_u16();
                tracing::warn!("Apache would answer {status} to {target}: {refusal}.");
                refusal.page().map(EmulatedBody::page)
            }))
        })
    }
}

impl Shared {
    async fn answer(
        &self,
        request: Request<Body>,
        target: &str,
    ) -> Result<Response<EmulatedBody>, Refusal> {
        check_path(request.uri().path())?;
        let in_flight = self.in_flight.clone();
        let limit = self.rules.get(Directive::EP).unwrap_or(u64::MAX);
        if Rc::strong_count(&in_flight) as u64 > limit.saturating_add(1) {
            return Err(Refusal::TooManyRequests { limit });
        }
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, ());
        let mut variables = self.variables(&request);
        let output = match &self.processes {
            Some(processes) => {
                // mod_fcgid reads all of it before it looks for a process.
                let body = self.read(&request, body).await?;
                if !body.is_empty() && announced(&request).is_none() {
                    // Only the end of STDIN says how long it is.
                    variables.retain(|(name, _)| name != b"CONTENT_LENGTH");
                }
                check_length(&variables)?;
                let (request, lease) = self.send(processes, &variables, body).await?;
                Output::FastCgi(request, lease)
            }
            None => {
                let script = Script::start(&self.installation, &variables, body);
                let why = |error: io::Error| Refusal::NotStarted { why: error.to_string() };
                Output::Script(script.map_err(why)?)
            }
        };
        Source::new(output, &self.rules, target.to_owned(), in_flight).respond().await
    }

    /// Returns the variables of a request, with the paths of this installation.
    fn variables(&self, request: &Request<()>) -> Variables {
        let mut variables = (self.describe)(request);
        let root = variables.iter().find(|(name, _)| name == b"DOCUMENT_ROOT");
        let Some((_, root)) = root.cloned() else { return variables };
        let site = self.installation.site().into_os_string().into_vec();
        for (_, value) in &mut variables {
            if let Some(below) = value.strip_prefix(&root[..]) {
                *value = [&site, below].concat();
            }
        }
        variables
    }

    /// Reads a body that is to be whole in memory.
    async fn read(&self, request: &Request<()>, body: Body) -> Result<Bytes, Refusal> {
        let limit = self.rules.get(Directive::FcgidMaxRequestLen).unwrap_or(u64::MAX);
        if let Some(length) = announced(request).filter(|length| *length > limit) {
            return Err(Refusal::BodyTooLong { length, limit });
        }
        let mut body = pin!(body);
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let ended = |error: app_server::BodyError| Refusal::Ended { why: error.to_string() };
            if let Ok(data) = frame.map_err(ended)?.into_data() {
                read.extend_from_slice(&data);
            }
            let length = read.len() as u64;
            if length > limit {
                return Err(Refusal::BodyTooLong { length, limit });
            }
        }
        Ok(read.freeze())
    }

    /// Sends the request to a process. One that does not listen any more has ended: another one is asked.
    async fn send(
        &self,
        processes: &Processes,
        variables: &Variables,
        body: Bytes,
    ) -> Result<(FastCgiRequest, Lease), Refusal> {
        loop {
            let lease = processes.lease().await?;
            match FastCgiRequest::begin(lease.socket(), variables, body.clone()).await {
                Ok(request) => return Ok((request, lease)),
                Err(error) => {
                    tracing::debug!("Process cannot be reached: {error}.");
                    lease.end_process();
                }
            }
        }
    }
}

/// The length that a request announces for its body.
fn announced(request: &Request<()>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses paths that Apache refuses, whatever is installed.
fn check_path(path: &str) -> Result<(), Refusal> {
    /// NAME_MAX of Linux.
    const MAX_NAME: usize = 255;
    if path.to_ascii_lowercase().contains("%2f") {
        return Err(Refusal::EncodedSlash);
    }
    // Apache looks for the first name in the document root, which exists; deeper folders do not.
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match percent_decode_str(first).count() {
        length if length > MAX_NAME => Err(Refusal::LongName { length }),
        _ => Ok(()),
    }
}

/// Refuses variables that do not fit into one record of FastCGI, the only one that mod_fcgid sends.
fn check_length(variables: &Variables) -> Result<(), Refusal> {
    const MAX: usize = 65_535;
    let digits = |length: usize| if length < 128 { 1 } else { 4 };
    let length = variables
        .iter()
        .map(|(name, value)| digits(name.len()) + name.len() + digits(value.len()) + value.len())
        .sum();
    if length > MAX { Err(Refusal::VariablesTooLong { length }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_apache_refuses_are_refused() {
        let long = "n".repeat(256);
        for (path, status) in [
            ("/a/b%20c".to_owned(), None),
            ("/a%2Fb".to_owned(), Some(404)),
            ("/a%2fb".to_owned(), Some(404)),
            (format!("/{long}"), Some(403)),
            (format!("/{}", &long[1..]), None),
            (format!("/a/{long}"), None),
        ] {
            let refused = check_path(&path).err().map(|refusal| refusal.status().as_u16());
            assert_eq!(refused, status, "{path}");
        }
    }
}
