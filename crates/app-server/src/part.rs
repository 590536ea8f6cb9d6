//! The part of the program that a request is for, classified once and carried along with the request.

use std::borrow::Cow;

use process::Limits;

/// A part of the program, as [`Host::classify`](crate::Host::classify) names it: used in the log, to
/// quarantine what crashes repeatedly, and to isolate requests.
#[derive(Clone, Debug, Default)]
pub struct Part {
    name: Option<Cow<'static, str>>,
    limits: Option<Limits>,
}

impl Part {
    /// A part without a name; not isolated.
    pub const NONE: Part = Part { name: None, limits: None };

    /// The part with this name, at most 32 bytes of [a-z0-9_-]. Its requests are answered in the server's
    /// process.
    pub fn named(name: impl Into<Cow<'static, str>>) -> Part {
        Part { name: Some(name.into()), limits: None }
    }

    /// Answers each request in a child process of its own with these limits. Under `run_in_tokio`,
    /// tokio's timers and sockets do not work in such a child.
    #[must_use]
    pub fn isolated(mut self, limits: Limits) -> Part {
        self.limits = Some(limits);
        self
    }

    /// Has the process that calls this answer the request: it is the child that was made for it.
    pub(crate) fn answer_here(&mut self) {
        self.limits = None;
    }

    /// The name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The limits of an isolated request; `None` if the server's own process answers.
    pub fn limits(&self) -> Option<Limits> {
        self.limits
    }
}
