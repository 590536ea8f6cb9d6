//! Who sends a request, as far as pages and tools may know.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;

use super::session::Session;
use crate::http::base_path::BasePath;
use crate::pages::frame::Frame;
use crate::server::Name;

/// Who sends a request: the owner, or anybody. An extractor that never fails.
///
/// Only the owner ever reaches a tool that is not public; this is for a public one that shows the owner more.
#[derive(Clone, Debug, Default)]
pub struct Visitor(Who);

#[derive(Clone, Debug, Default)]
enum Who {
    /// Anybody, on a site without a login.
    #[default]
    Anybody,
    /// Anybody, on a site with a login.
    NotLoggedIn,
    /// The owner, by a session. `is_due`: its cookie has to be sent again.
    LoggedIn { session: Arc<Session>, is_due: bool },
    /// The owner, in a shell of the account itself.
    InShell,
}

impl Visitor {
    /// Anybody, on a site with a login.
    pub(crate) fn unknown() -> Self {
        Visitor(Who::NotLoggedIn)
    }

    /// The owner, by a session. `is_due`: its cookie has to be sent again.
    pub(crate) fn owner(session: Session, is_due: bool) -> Self {
        Visitor(Who::LoggedIn { session: Arc::new(session), is_due })
    }

    /// The owner, in a shell of the account itself.
    pub(crate) fn in_the_shell() -> Self {
        Visitor(Who::InShell)
    }

    /// Returns the visitor of a request with these extensions.
    pub(crate) fn of(extensions: &Extensions) -> Visitor {
        extensions.get().cloned().unwrap_or_default()
    }

    /// Returns whether it is the owner.
    pub fn is_owner(&self) -> bool {
        matches!(self.0, Who::LoggedIn { .. } | Who::InShell)
    }

    /// Returns what the pages of this request show about the visitor.
    pub(crate) fn frame(&self, base: BasePath, name: Name) -> Frame {
        Frame {
            name,
            base,
            csrf: self.session().map(|session| session.token.clone()),
            is_owner: self.is_owner(),
            has_login: self.has_login(),
        }
    }

    pub(crate) fn session(&self) -> Option<&Session> {
        match &self.0 {
            Who::LoggedIn { session, .. } => Some(session),
            _ => None,
        }
    }

    pub(crate) fn has_login(&self) -> bool {
        matches!(self.0, Who::NotLoggedIn | Who::LoggedIn { .. })
    }

    pub(crate) fn is_due(&self) -> bool {
        matches!(self.0, Who::LoggedIn { is_due: true, .. })
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Visitor::of(&parts.extensions))
    }
}
