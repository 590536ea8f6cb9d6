//! What the protocol reports becomes requests: each starts, gets its body, and may be aborted.

use fastcgi_server::{Event, Refusal, RequestId, Role};
use http::Method;

use super::connection::{Connection, InFlightRequest};
use super::output::Stdout;
use crate::cause::Cause;
use crate::cgi_vars::cgi_to_http::{self, Head};
use crate::connections::Activity;
use crate::error_report::About;
use crate::recovery::Mark;
use crate::request::body::{Body, Sender};
use crate::request::context::{FilterData, RequestContext};
use crate::request::service::HttpService;
use crate::transport::respond::{self, ResponseSink};

impl<S: HttpService> Connection<S> {
    /// Passes what was read to the requests. Returns whether the connection can continue.
    pub(super) fn handle_events(&mut self) -> bool {
        // A request that starts with the next event, which may be the end of its body.
        let mut beginning: Option<fastcgi_server::Request> = None;
        loop {
            let event = self.link.protocol.borrow_mut().poll_event();
            if let Some(request) = beginning.take() {
                let no_body = matches!(&event, Some(Event::StdinEnd { id }) if *id == request.id);
                self.begin(request, no_body);
                if no_body {
                    continue;
                }
            }
            match event {
                None => {
                    self.record_input(0);
                    self.note_head();
                    return true;
                }
                Some(Event::Request(request)) => {
                    // The id may be reused immediately, for a new head.
                    self.head = None;
                    beginning = Some(request);
                }
                Some(Event::Refused { id, reason: Refusal::ParamsTooLarge { limit } }) => {
                    let cause = Cause::VariablesTooLarge(limit);
                    let page = self.application.page(cause, &About::unknown());
                    self.stdout(id).page(&Method::GET, page);
                }
                Some(Event::Stdin { id, data }) => {
                    if let Some(stdin) = self.request(id).and_then(|it| it.stdin.as_mut()) {
                        stdin.push(data);
                    }
                }
                Some(Event::StdinEnd { id }) => {
                    if let Some(stdin) = self.request(id).and_then(|it| it.stdin.take()) {
                        stdin.end();
                    }
                }
                Some(Event::Data { id, data }) => {
                    if let Some(sender) = self.request(id).and_then(|it| it.data.as_mut()) {
                        sender.push(data);
                    }
                }
                Some(Event::DataEnd { id }) => {
                    if let Some(sender) = self.request(id).and_then(|it| it.data.take()) {
                        sender.end();
                    }
                }
                Some(Event::Abort { id }) => self.abort(id),
                Some(Event::Failed(error)) => {
                    tracing::warn!("FastCGI connection closed: {error}.");
                    return false;
                }
            }
        }
    }

    fn request(&mut self, id: RequestId) -> Option<&mut InFlightRequest> {
        self.in_flight.iter_mut().find(|request| request.id == id)
    }

    /// The sink for a page made by the server.
    fn stdout(&self, id: RequestId) -> Stdout {
        Stdout { link: self.link.clone(), id, mark: Mark::default() }
    }

    /// Passes a request to the application. `no_body`: its body has already ended.
    fn begin(&mut self, request: fastcgi_server::Request, no_body: bool) {
        let fastcgi_server::Request { id, role, params, keep_connection } = request;
        self.registration.set_activity(Activity::Answering);
        self.is_new = false;
        let head = cgi_to_http::head(params, Some(role), self.application.settings.of_variables());
        let Head { request, gateway, content_length: length } = match head {
            Ok(head) => head,
            Err(why) => {
                let page = self.application.page(Cause::BadRequest(why), &About::unknown());
                return self.stdout(id).page(&Method::GET, page);
            }
        };
        let (stdin, body) = self.body(role, length, no_body);
        let mut request = request.map(|()| body);
        self.application.classify(&mut request, gateway);
        let data = (role == Role::Filter).then(|| {
            let (sender, body) = Body::queue(None);
            let context = request.extensions_mut().get_or_insert_default::<RequestContext>();
            context.filter_data = Some(FilterData::new(body));
            Box::new(sender)
        });
        // A reused id means that its former request has ended: drop what is left of it.
        self.in_flight.retain(|request| request.id != id);
        self.multiplexed |= !self.in_flight.is_empty();
        let connection = self.guard.connection();
        let guard = self.application.register(connection, id.get(), &request);
        let mark = guard.mark();
        let is_received = stdin.is_none() && data.is_none();
        self.record_input(usize::from(is_received && keep_connection));
        let task = event_loop::spawn_now(respond::run(
            self.application.clone(),
            Stdout { link: self.link.clone(), id, mark },
            request,
            mark,
        ));
        self.in_flight.push(InFlightRequest {
            id,
            stdin,
            data,
            keeps_connection: keep_connection,
            _task: task,
            _guard: guard,
        });
    }

    /// Makes a request's body, and its sender unless it has ended.
    fn body(&self, role: Role, length: Option<u64>, has_ended: bool) -> (Option<Sender>, Body) {
        // An authorizer does not get the body of the request it decides about.
        if role == Role::Authorizer || has_ended && length.unwrap_or(0) == 0 {
            return (None, Body::empty());
        }
        let (sender, body) = Body::arriving(length, &self.application.settings);
        if has_ended {
            sender.end();
            return (None, body);
        }
        (Some(sender), body)
    }

    /// The web server no longer wants the response: cancels the handler and ends the request.
    fn abort(&mut self, id: RequestId) {
        if let Some(at) = self.in_flight.iter().position(|request| request.id == id) {
            tracing::debug!("Web server aborted request {id}.");
            drop(self.in_flight.swap_remove(at));
        }
        self.link.protocol.borrow_mut().end_request(id, 1);
    }
}
