//! The login for any folder of the account, whose files the web server serves itself.
//!
//! Apache asks about each request below the folder (FastCGI 1.0 §6.3, `FcgidAccessChecker`): 200 means "let
//! them", and the headers of that answer become the file's own, so there are none but what keeps
//! the session going and the file out of caches on the way. Of any other answer Apache takes neither body nor `Location`, it says 401 itself; so the
//! folder's `ErrorDocument` asks a second time, and then the visitor is led to the login. docs/login.md has the
//! lines.

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

/// What the web server asks about a request for a guarded folder: a request extension. The request's URI is
/// the one that the visitor asked for, whole; the value says where the site is mounted.
#[derive(Clone, Debug)]
pub enum Asks {
    /// May it pass?
    MayPass(BasePath),
    /// It may not: what is the visitor to read?
    WhatToSay(BasePath),
}

impl Gate {
    /// Answers the web server.
    ///
    /// # Errors
    /// The page that refuses; also when it cannot be found out who asks.
    pub(crate) async fn authorize(
        &self,
        asked: &Parts,
        what: &Asks,
        is_https: bool,
    ) -> Result<Response, HttpError> {
        match what {
            Asks::MayPass(site) => {
                let visitor = self.recognise(&asked.headers, &asked.extensions).await?;
                if !visitor.is_owner() {
                    return Err(refusal(site));
                }
                let mut response = Response::new(Body::empty());
                let headers = response.headers_mut();
                headers.insert(CACHE_CONTROL, HeaderValue::from_static(CACHING));
                self.see_out(&visitor, site, is_https, headers);
                Ok(response)
            }
            Asks::WhatToSay(site) => self.lead_to_login(asked, site),
        }
    }

    /// Leads a browser to the login, and from there back to the path it asked for. That path lies beside the
    /// site, so it is signed.
    fn lead_to_login(&self, asked: &Parts, site: &BasePath) -> Result<Response, HttpError> {
        let is_page = [Method::GET, Method::HEAD].contains(&asked.method);
        if !is_page || Format::wanted(&asked.headers, Format::Text) != Format::Html {
            return Err(refusal(site));
        }
        let path = asked.uri.path_and_query().map_or("/", |path| path.as_str());
        let signature = next::sign(self.secrets()?, path);
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
