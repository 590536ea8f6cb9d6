//! Everything that the server asks of the program around it.

use bytes::Bytes;
use http::{Response, Uri};

use crate::error_report::{self, ErrorReport};
use crate::part::Part;

/// The program that embeds the server. Every method has a default, so `struct Plain; impl Host for Plain {}` is a
/// host; a server without one behaves the same.
pub trait Host: 'static {
    /// Returns the part of the program that a request is for, by its path below BASE. Called once per
    /// request. Default: [`Part::NONE`].
    fn classify(&self, _: &Uri) -> Part {
        Part::NONE
    }

    /// Makes the page for what the server has to answer itself: a crash, an overload, a bad request. Default: a
    /// few lines of plain text with status and reference.
    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        error_report::plain_text(report)
    }

    /// Called once when the listen socket is open, with the address as users write it. Not called again when the
    /// process upgrades to another version of its program.
    fn on_listening(&self, _: &str) {}

    /// Called whenever the server checks for newer versions, for other regular checks (such as a growing
    /// log): once a second while there are requests, every 2 to 10 s while there are none. Without
    /// [`Server::upgrade`](crate::Server::upgrade), every 10 s. It must not block.
    fn on_look(&self) {}
}

/// A host with only the defaults.
pub(crate) struct NoHost;

impl Host for NoHost {}
