//! What the server tells the login of a request, by the request's extensions.

use app_server::{BasePath, Body, CgiVariables, RequestContext, Role, Scheme};
use hosted::Program;
use http::{Extensions, Request, StatusCode};
use site::login::BadHash;
use site::login::authorizer::AuthorizerQuery;
use site::{Name, Password, Server, ServerFacts};

/// Describes a request. `base`: where the site is mounted if a request does not show it.
pub fn describe(
    request: &mut Request<Body>,
    program: Program,
    base: Option<&BasePath>,
    facts: &'static ServerFacts,
) {
    let context = RequestContext::of(request.extensions());
    if let Some(asks) = asked_by_web_server(context, program, base) {
        request.extensions_mut().insert(asks);
        request.extensions_mut().insert(Server(facts));
        return;
    }
    let shown = context.base();
    if !shown.as_str().is_empty() {
        let shown = site::BasePath::new(shown.as_str());
        request.extensions_mut().insert(shown);
    } else if let Some(base) = base {
        // It was set while the process runs; at its next start the server does this.
        if let Some(uri) = base.removed_from(request.uri()) {
            *request.uri_mut() = uri;
        }
        request.extensions_mut().insert(site::BasePath::new(base.as_str()));
    }
    request.extensions_mut().insert(Server(facts));
}

/// Returns the web server's query about a folder next to the site that the login guards, if the request is one.
///
/// The first query has the role authorizer. The second, Apache's `ErrorDocument 401 BASE/login` of that folder, is a
/// request for the folder's own path that was redirected to our launcher. Clients cannot set these variables, whose
/// names do not start with `HTTP_`.
fn asked_by_web_server(
    context: &RequestContext,
    program: Program,
    base: Option<&BasePath>,
) -> Option<AuthorizerQuery> {
    let is_check = context.role() == Some(Role::Authorizer);
    let is_refusal = context.redirect_status() == Some(StatusCode::UNAUTHORIZED);
    // Looking variables up takes time, and hardly any request is one of the two.
    let variables = context.variables().filter(|_| is_check || is_refusal)?;
    let text = |name: &str| variables.get(name).and_then(|value| std::str::from_utf8(value).ok());
    if is_check {
        let site = text(&program.variable("base")).or(base.map(BasePath::as_str)).unwrap_or("");
        return Some(AuthorizerQuery::Check(site::BasePath::new(site)));
    }
    let (site, _) = text("SCRIPT_NAME")?.rsplit_once('/')?;
    let is_for_login = text("REDIRECT_URL")?.strip_prefix(site) == Some("/login");
    is_for_login.then(|| AuthorizerQuery::Refusal(site::BasePath::new(site)))
}

/// What any program reports about a request.
pub const FACTS: ServerFacts = ServerFacts {
    name: Name::TOOLSHED,
    reference: app_server::reference,
    variables: variables_of,
    facts: |_| Vec::new(),
    address: |extensions| RequestContext::of(extensions).remote_address(),
    is_https: |extensions| RequestContext::of(extensions).scheme() == Scheme::Https,
    serves_one_request: |extensions| {
        // Each FastCGI transport names a role; over HTTP there are no variables.
        let context = RequestContext::of(extensions);
        context.variables().is_some() && context.role().is_none()
    },
    is_draining: app_server::is_draining,
    password: password_of,
};

/// The same, if anybody may have sent the request's variables: passwords that come with a request are ignored.
pub const FACTS_OVER_TCP: ServerFacts = ServerFacts { password: |_| None, ..FACTS };

/// The password that the web server sends with a request (`SetEnv` in .htaccess).
fn password_of(extensions: &Extensions) -> Option<Result<Password, BadHash>> {
    let secrets = RequestContext::of(extensions).secrets()?;
    let text = |name| {
        let secret = secrets.get(name).filter(|secret| !secret.is_empty())?;
        Some(String::from_utf8_lossy(secret).into_owned())
    };
    match text("APP_PASSWORD_HASH") {
        Some(hash) => Some(Password::from_hash(&hash)),
        None => Password::clear(text("APP_PASSWORD")?).map(Ok),
    }
}

/// The web server's variables. Over HTTP there are none.
fn variables_of(extensions: &Extensions) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let variables =
        RequestContext::of(extensions).variables().into_iter().flat_map(CgiVariables::iter);
    variables.map(|(name, value)| (text(name), text(value))).collect()
}
