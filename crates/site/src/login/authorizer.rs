//! The login for any folder of the account whose files the web server itself serves.
//!
//! Apache asks about each request below the folder (FastCGI 1.0 §6.3, `FcgidAccessChecker`). 200 lets it pass, and the
//! headers of that response are added to the file's, so it has only those that extend the session and keep the file
//! out of shared caches. For any other status Apache discards body and `Location` and sends 401 itself; so the folder's
//! `ErrorDocument` asks a second time, and that response leads the visitor to the login. docs/login.md has the lines.

use axum::body::Body;
use axum::response::{IntoResponse, Redirect, Response};
use http::header::CACHE_CONTROL;
use http::request::Parts;
use http::{HeaderValue, Method, StatusCode};

use super::gate::Gate;
use super::next;
use crate::http::base_path::BasePath;
use crate::http::error::HttpError;
use crate::http::format::Format;
use crate::pages::page::CACHING;

/// What the web server asks about a request for a guarded folder: a request extension. The request's URI is the whole
/// one that the visitor asked for; the value says where the site is mounted.
#[derive(Clone, Debug)]
pub enum AuthorizerQuery {
    /// Whether the request may pass.
    Check(BasePath),
    /// What to show the visitor of a request that may not.
    Refusal(BasePath),
}

impl AuthorizerQuery {
    /// Returns where the site is mounted.
    pub(crate) fn site(&self) -> &BasePath {
        let (AuthorizerQuery::Check(site) | AuthorizerQuery::Refusal(site)) = self;
        site
    }
}

impl Gate {
    /// Responds to the web server.
    ///
    /// # Errors
    ///
    /// The page that refuses; also if the visitor cannot be identified.
    pub(crate) async fn authorize(
        &self,
        head: &Parts,
        query: &AuthorizerQuery,
        is_https: bool,
    ) -> Result<Response, HttpError> {
        let site = match query {
            AuthorizerQuery::Check(site) => site,
            AuthorizerQuery::Refusal(site) => return self.lead_to_login(head, site).await,
        };
        let visitor = self.recognize(&head.headers, &head.extensions).await?;
        if !visitor.is_owner() {
            return Err(refusal(site));
        }
        let mut response = Response::new(Body::empty());
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHING));
        self.renew_cookie(&visitor, site, is_https, headers);
        Ok(response)
    }

    /// Redirects a browser to the login, and from there back to the path it asked for. That path is outside the site,
    /// so it is signed.
    async fn lead_to_login(&self, head: &Parts, site: &BasePath) -> Result<Response, HttpError> {
        let is_page = [Method::GET, Method::HEAD].contains(&head.method);
        if !is_page || Format::wanted(&head.headers, Format::Text) != Format::Html {
            return Err(refusal(site));
        }
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let signature = next::sign(self.secrets().await?, path);
        let fields = [("next", path), ("signed", &*signature)];
        let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut response =
            Redirect::to(&format!("{}?{query}", site.link("/login"))).into_response();
        *response.status_mut() = StatusCode::FOUND;
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

fn refusal(site: &BasePath) -> HttpError {
    HttpError::new(StatusCode::UNAUTHORIZED).line(site.link("/login")).default_format(Format::Text)
}
