//! A layer for applications that were written for the root of a host, and are mounted below a folder.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use app_server::{BasePath, RequestContext};
use http::header::{LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Puts the base in front of what a service says of its own paths in headers: `Location: /a` becomes
/// `Location: /project/a`, and a cookie with `Path=/` is sent to `/project` only. At the root of a host it changes nothing.
///
/// ```
/// use axum::{Router, response::Redirect, routing::get};
///
/// let router: Router = Router::new()
///     .route("/old", get(async || Redirect::to("/new")))
///     .layer(hosted::Mounted);
/// ```
///
/// What is below the base already, is relative, or names a host stays as it is, and so do cookies whose names start with
/// `__Host-`, which browsers take only with `Path=/` (RFC 6265bis §4.1.3.2). Links in pages are the application's: relative ones
/// work anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mounted;

impl<S> Layer<S> for Mounted {
    type Service = MountedService<S>;

    fn layer(&self, service: S) -> MountedService<S> {
        MountedService { service }
    }
}

/// The service that [`Mounted`] makes.
#[derive(Clone, Copy, Debug)]
pub struct MountedService<S> {
    service: S,
}

impl<S, I, O> Service<Request<I>> for MountedService<S>
where
    S: Service<Request<I>, Response = Response<O>>,
{
    type Response = Response<O>;
    type Error = S::Error;
    type Future = MountedFuture<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: Request<I>) -> Self::Future {
        let base = RequestContext::of(request.extensions()).base().clone();
        MountedFuture { future: self.service.call(request), base }
    }
}

pin_project! {
    /// The future of [`MountedService`].
    #[derive(Debug)]
    pub struct MountedFuture<F> {
        #[pin]
        future: F,
        base: BasePath,
    }
}

impl<F, O, E> Future for MountedFuture<F>
where
    F: Future<Output = Result<Response<O>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(context))?;
        if !this.base.as_str().is_empty() {
            mount(response.headers_mut(), this.base.as_str());
        }
        Poll::Ready(Ok(response))
    }
}

fn mount(headers: &mut HeaderMap, base: &str) {
    if let Some(location) = headers.get_mut(LOCATION) {
        replace(location, |text| below(base, text));
    }
    if let http::header::Entry::Occupied(mut cookies) = headers.entry(SET_COOKIE) {
        cookies.iter_mut().for_each(|cookie| replace(cookie, |text| cookie_below(base, text)));
    }
}

/// Replaces the value by what `change` makes of it, if that is anything.
fn replace(value: &mut HeaderValue, change: impl FnOnce(&str) -> Option<String>) {
    let changed = value.to_str().ok().and_then(change);
    if let Some(changed) = changed.and_then(|text| HeaderValue::try_from(text).ok()) {
        *value = changed;
    }
}

/// Returns a path below the base; `None` for what is there already, is relative or names a host.
fn below(base: &str, path: &str) -> Option<String> {
    let is_local = path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\");
    let rest = path.strip_prefix(base);
    let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']));
    (is_local && !is_below).then(|| format!("{base}{path}"))
}

fn cookie_below(base: &str, cookie: &str) -> Option<String> {
    if cookie.trim_start().starts_with("__Host-") {
        return None;
    }
    let mut changed = false;
    let parts = cookie.split(';').enumerate().map(|(number, part)| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let is_path = number > 0 && name.trim().eq_ignore_ascii_case("path");
        let path = match value.trim() {
            "/" if is_path => Some(base.to_owned()),
            path if is_path => below(base, path),
            _ => None,
        };
        let Some(path) = path else { return part.to_owned() };
        changed = true;
        format!("{name}={path}")
    });
    let parts: Vec<_> = parts.collect();
    changed.then(|| parts.join(";"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_host_get_the_base_in_front() {
        for (location, expected) in [
            ("/", Some("/project/")),
            ("/a?b=/c#d", Some("/project/a?b=/c#d")),
            ("/projects", Some("/project/projects")),
            ("/project", None),
            ("/project/a", None),
            ("/project?a", None),
            ("a", None),
            ("", None),
            ("//host/a", None),
            ("/\\host", None),
            ("https://host/a", None),
        ] {
            assert_eq!(below("/project", location).as_deref(), expected, "{location}");
        }
    }

    #[test]
    fn cookies_stay_with_their_application() {
        for (cookie, expected) in [
            ("a=b; Path=/; HttpOnly", Some("a=b; Path=/project; HttpOnly")),
            ("a=b;path=/x/ ;Secure", Some("a=b;path=/project/x/;Secure")),
            ("a=b; Path=/project/x", None),
            ("a=b", None),
            ("path=/x", None),
            ("__Host-a=b; Path=/; Secure", None),
        ] {
            assert_eq!(cookie_below("/project", cookie).as_deref(), expected, "{cookie}");
        }
    }

    #[test]
    fn every_cookie_and_the_location_are_changed() {
        let mut headers = HeaderMap::new();
        headers.insert(LOCATION, HeaderValue::from_static("/a"));
        for cookie in ["a=1; Path=/", "b=2", "c=3; Path=/c"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
        }
        mount(&mut headers, "/project");
        assert_eq!(headers[LOCATION], "/project/a");
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; Path=/project", "b=2", "c=3; Path=/project/c"]);
    }
}
