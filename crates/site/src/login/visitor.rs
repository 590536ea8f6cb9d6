//! Who sends a request, as far as pages and tools may know.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use super::session::Session;
use crate::http::base_path::BasePath;
use crate::pages::frame::Frame;

/// Who sends a request: the owner, or anybody. An extractor that never fails.
///
/// Only the owner ever reaches a tool that is not public; this is for a public one that shows the owner more.
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    session: Option<Arc<Session>>,
    is_owner: bool,
    has_login: bool,
    is_due: bool,
}

impl Visitor {
    /// Anybody, on a site with a login.
    pub(crate) fn unknown() -> Self {
        Visitor { has_login: true, ..Visitor::default() }
    }

    /// The owner, by a session. `is_due`: its cookie has to be sent again.
    pub(crate) fn owner(session: Session, is_due: bool) -> Self {
        Visitor { session: Some(Arc::new(session)), is_owner: true, has_login: true, is_due }
    }

    /// The owner, in a shell of the account itself.
    pub(crate) fn in_the_shell() -> Self {
        Visitor { is_owner: true, ..Visitor::default() }
    }

    /// Returns the visitor of a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Visitor {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Returns whether it is the owner.
    pub fn is_owner(&self) -> bool {
        self.is_owner
    }

    /// Returns what the pages of this request show about the visitor.
    pub(crate) fn frame(&self, base: BasePath) -> Frame {
        Frame {
            base,
            csrf: self.session().map(|session| session.token.clone()),
            is_owner: self.is_owner,
            has_login: self.has_login,
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        self.session.as_deref()
    }

    pub(crate) fn has_login(&self) -> bool {
        self.has_login
    }

    pub(crate) fn is_due(&self) -> bool {
        self.is_due
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Visitor::of(&parts.extensions))
    }
}
