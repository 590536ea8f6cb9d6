//! What every page shows of its request, as plain data.
//!
//! `middleware.rs` fills it in, once per request; the templates read it. How a visitor is identified is not known here.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::Extensions;
use http::request::Parts;
use tera::Context;

use crate::http::base_path::BasePath;
use crate::server::{Name, Server};

/// The values of `frame.html`, which all templates see. An extractor that never fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// What program and site are called.
    pub(crate) name: Name,
    /// What every link starts with.
    pub(crate) base: BasePath,
    /// The value of a form's first field, `csrf`; `None` for anybody but the owner.
    pub(crate) csrf: Option<Arc<str>>,
    /// Whether the owner sees the page.
    pub(crate) is_owner: bool,
    /// Whether anybody can log in.
    pub(crate) has_login: bool,
}

impl Frame {
    /// The frame of a site without a login, or for a visitor who was not identified.
    pub(crate) fn at(base: BasePath, name: Name) -> Frame {
        Frame { base, name, ..Frame::default() }
    }

    /// Returns the frame of a request. If nobody identified the visitor, BASE is all that is known.
    pub(crate) fn of(extensions: &Extensions) -> Frame {
        let known = extensions.get::<Frame>().cloned();
        known.unwrap_or_else(|| {
            Frame::at(extensions.get().cloned().unwrap_or_default(), Server::of(extensions).name())
        })
    }

    /// Gives a template these values.
    pub(crate) fn insert_into(&self, context: &mut Context) {
        context.insert("base", self.base.as_str());
        context.insert("program_name", self.name.program);
        context.insert("site_name", self.name.title);
        context.insert("csrf", self.csrf.as_deref().unwrap_or_default());
        context.insert("is_owner", &self.is_owner);
        context.insert("has_login", &self.has_login);
    }
}

impl<S: Sync> FromRequestParts<S> for Frame {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Frame::of(&parts.extensions))
    }
}
