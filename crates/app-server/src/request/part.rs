//! The part of the program that a request is for, found out once and carried along with the request.

use std::borrow::Cow;

use process::Limits;

/// A part of the program, as [`Host::classify`](crate::Host::classify) names it: for the log, for the quarantine of
/// what crashes again and again, and to say that its requests are isolated.
#[derive(Clone, Debug, Default)]
pub struct Part {
    name: Option<Cow<'static, str>>,
    limits: Option<Limits>,
}

impl Part {
    /// No part that has a name; not isolated.
    pub const NONE: Part = Part { name: None, limits: None };

    /// The part of this name, at most 32 bytes of [a-z0-9_-]. Its requests are answered in the server's process.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Part {
        Part { name: Some(name.into()), limits: None }
    }

    /// Has each request answered by a child process of its own with these limits. Under `run_in_tokio`, tokio's
    /// own time and sockets do not work in such a child.
    #[must_use]
    pub fn isolated(mut self, limits: Limits) -> Part {
        self.limits = Some(limits);
        self
    }

    /// The name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// What an isolated request may use; `None` when the server's own process answers.
    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }
}
