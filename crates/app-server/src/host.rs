//! All that the server asks of the program around it.

use bytes::Bytes;
use http::{Response, Uri};

use crate::error_report::{self, ErrorReport};
use crate::request::part::Part;

/// The program that embeds the server. Each answer has a default: `struct Nobody; impl Host for Nobody {}` is a
/// host, and what a server has that is given none.
pub trait Host: 'static {
    /// Says which part of the program a request is for, by its address below the base. Asked once for each
    /// request. Default: [`Part::NONE`].
    fn classify(&self, _: &Uri) -> Part {
        Part::NONE
    }

    /// Makes the page for what the server has to answer itself: a crash, an overload, a bad request. Default: a
    /// few lines of plain text with status and reference.
    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        error_report::plain_text(report)
    }

    /// Called once when the listen socket is open, with the address as people write it. Not called again when the
    /// process becomes another version of its program.
    fn on_listening(&self, _: &str) {}

    /// Called whenever the server looks for newer versions, for other things that need a regular check (a growing
    /// log): once a second while there are requests, every 2 to 10 s while there are none. Only with
    /// [`Settings::upgrade`](crate::Settings::upgrade). It must not block.
    fn on_look(&self) {}
}

/// A host that asks for nothing.
pub(crate) struct NoHost;

impl Host for NoHost {}
