//! Failures as the site's pages: those that the server reports, and those of the application's handlers.

use app_server::{Cause, ErrorReport, Failed, Host};
use axum::body::HttpBody as _;
use axum::response::Response as AxumResponse;
use bytes::Bytes;
use http::Response;
use site::{HttpError, Name};

/// Makes the site's page for a response of the server itself.
pub fn error_page(report: &ErrorReport, name: Name) -> Response<Bytes> {
    let page = HttpError::new(report.status);
    let page = match &report.cause {
        Cause::Quarantined { part, seconds } => page
            .title("Temporarily unavailable")
            .message(format!(
                "{part} is temporarily unavailable after repeated crashes. The rest of the site is \
                 unaffected. Please try again in {seconds} seconds."
            ))
            .retry_after(u32::try_from(*seconds).unwrap_or(u32::MAX)),
        Cause::Interrupted => page.message(
            "The site restarted while it was handling your request, because something else on it \
             crashed. Please try again.",
        ),
        _ => page,
    };
    let accept = report.accept.as_ref();
    site::error_page::page_of(&page, name, report.base.as_str(), &report.reference, accept)
}

/// The error pages of an application of this name.
pub(crate) struct ErrorPages(pub(crate) Name);

impl Host for ErrorPages {
    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        error_page(report, self.0)
    }
}

/// Has the site log a handler's failure and make its page, instead of the server. What a layer has made a page of stays the
/// server's to log.
pub(crate) async fn as_page(mut response: AxumResponse) -> AxumResponse {
    if response.body().size_hint().lower() > 0 {
        return response;
    }
    let Some(failed) = response.extensions_mut().remove::<Failed>() else { return response };
    let Failed { status, message, why } = failed;
    let error = HttpError::new(status).fault("application").cause(why);
    let error = match message {
        Some(message) => error.message(message),
        None => error,
    };
    response.extensions_mut().insert(error);
    response
}
