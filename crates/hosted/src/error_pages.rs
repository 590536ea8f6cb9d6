//! What an application's error pages look like.

use std::rc::Rc;

use app_server::{ErrorReport, Host};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response};

type Make = Rc<dyn Fn(&ErrorReport) -> Response<Bytes>>;

/// How they are made: by the application, or as the server does.
#[derive(Clone, Default)]
pub(crate) struct ErrorPages {
    make: Option<Make>,
}

impl ErrorPages {
    pub(crate) fn made_by<P: Into<Bytes>>(
        page: impl Fn(&ErrorReport) -> Response<P> + 'static,
    ) -> Self {
        ErrorPages { make: Some(Rc::new(move |report| complete(page(report), report))) }
    }

    /// Returns a host that has these pages, and nothing else.
    pub(crate) fn host(&self) -> Rc<dyn Host> {
        Rc::new(self.clone())
    }
}

impl Host for ErrorPages {
    fn error_page(&self, report: &ErrorReport) -> Response<Bytes> {
        match &self.make {
            Some(make) => make(report),
            None => app_server::plain_text_page(report),
        }
    }
}

/// Adds what its author need not think of: an error that says 200 is found by caches and search engines.
fn complete<P: Into<Bytes>>(page: Response<P>, report: &ErrorReport) -> Response<Bytes> {
    let mut page = page.map(Into::into);
    *page.status_mut() = report.status;
    let headers = page.headers_mut();
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    headers.entry(CONTENT_TYPE).or_insert(html);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(seconds) = report.retry_after() {
        headers.entry(RETRY_AFTER).or_insert(seconds.into());
    }
    page
}

#[cfg(test)]
mod tests {
    use app_server::{BasePath, Cause, Failed};
    use http::StatusCode;

    use super::*;

    fn report(status: StatusCode) -> ErrorReport {
        let message = Some("Later.".to_owned());
        let cause = Cause::Failed(Failed { status, message, why: "a secret".to_owned() });
        let base = BasePath::default();
        ErrorReport { status, reference: "abc".to_owned(), base, accept: None, cause }
    }

    #[test]
    fn an_own_page_says_that_it_is_an_error() {
        let say = |report: &ErrorReport| format!("{} {:?}", report.reference, report.message());
        let pages = ErrorPages::made_by(move |report| Response::new(say(report)));
        let page = pages.host().error_page(&report(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(page.status(), 503);
        assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(page.headers()[RETRY_AFTER], "1");
        assert_eq!(page.body(), "abc Some(\"Later.\")");
    }

    #[test]
    fn without_one_the_page_is_text() {
        let page = ErrorPages::default().host().error_page(&report(StatusCode::GONE));
        assert_eq!(page.body(), "410 Gone\n\nLater.\n\nReference: abc\n");
    }

    #[test]
    fn what_an_own_page_says_of_itself_stays() {
        let pages = ErrorPages::made_by(|_| {
            let page = Response::builder().header(CONTENT_TYPE, "application/json");
            page.header(CACHE_CONTROL, "private").body("{}").unwrap()
        });
        let page = pages.host().error_page(&report(StatusCode::NOT_FOUND));
        assert_eq!(page.status(), 404);
        assert_eq!(page.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(page.headers()[CACHE_CONTROL], "private");
    }
}
