//! What a handler returns when it fails: the server logs why, under a reference, and makes the page.

use std::error::Error;
use std::fmt;

use app_server::Failed;
use http::{Response, StatusCode};

/// A failed request. `?` makes one of any error: a 500, whose causes are logged under a reference that the visitor reads
/// on the [error page](crate::Application::error_page).
///
/// ```
/// use axum::{Router, extract::Path, routing::get};
/// use http::StatusCode;
/// use hosted::HttpError;
///
/// async fn double(Path(number): Path<String>) -> Result<String, HttpError> {
///     let number: u32 = number.parse().map_err(|_| {
///         HttpError::new(StatusCode::NOT_FOUND).message("There are only pages of numbers.")
///     })?;
///     let settings = std::fs::read_to_string("factor.txt")?; // a 500 if it is not there
///     let factor: u32 = settings.trim().parse()?;
///     Ok(format!("{}\n", number * factor))
/// }
/// # let _: Router = Router::new().route("/{number}", get(double));
/// ```
///
/// With the feature `store`, a [`StoreError`](crate::store::StoreError), or one among the causes, is a 503 with words for the visitor, unless
/// the statement is wrong: the data is unavailable for now. As a response of axum's it needs the feature `axum`, elsewhere
/// [`into_http`](Self::into_http). It is no `Error` itself. Headers that come with it stay: `(headers, error)`. A layer that makes another
/// response of it has to log by itself.
pub struct HttpError(Failed);

impl HttpError {
    /// An error with this status. A client error (4xx) is not logged; what is no error (200) is a 500.
    pub fn new(status: StatusCode) -> Self {
        HttpError(Failed { status, message: None, why: "no cause given".to_owned() })
    }

    /// Sets what the visitor reads, beside the status: sentences.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Sets the cause, for the log only: an error, with the causes that it has, or text.
    #[must_use]
    pub fn cause(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.why = in_words(&*cause.into());
        self
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns it as a response without a page, which the server makes.
    pub fn into_http<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(self.0);
        response
    }
}

impl fmt::Debug for HttpError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "HttpError({}: {})", self.0.status, self.0.why)
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for HttpError {
    fn from(error: E) -> Self {
        let error = error.into();
        let page = match words_of_store(&*error) {
            Some(words) => HttpError::new(StatusCode::SERVICE_UNAVAILABLE).message(words),
            None => HttpError::new(StatusCode::INTERNAL_SERVER_ERROR),
        };
        page.cause(error)
    }
}

/// Returns what visitors may be told if the store is unavailable, and that is the reason.
#[cfg(feature = "store")]
fn words_of_store(error: &(dyn Error + 'static)) -> Option<&'static str> {
    causes(error).find_map(|error| error.downcast_ref::<storage::StoreError>()?.for_visitors())
}

#[cfg(not(feature = "store"))]
fn words_of_store(_: &(dyn Error + 'static)) -> Option<&'static str> {
    None
}

/// Returns an error and its causes.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// Describes an error and its causes on one line, `a: b: c`, without a period. A cause that the text ends with already is not
/// repeated: many errors name their cause themselves.
fn in_words(error: &(dyn Error + 'static)) -> String {
    let mut words = String::new();
    for cause in causes(error) {
        let text = cause.to_string();
        let text = text.trim().trim_end_matches('.');
        if words.is_empty() {
            words += text;
        } else if !words.ends_with(text) {
            words += ": ";
            words += text;
        }
    }
    words
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for HttpError {
    fn into_response(self) -> axum_core::response::Response {
        self.into_http()
    }
}

#[cfg(test)]
mod tests {
    use std::fmt;
    use std::io;

    use super::*;

    /// An error, and its cause.
    #[derive(Debug)]
    struct Because(&'static str, Option<Box<dyn Error + Send + Sync>>);

    impl fmt::Display for Because {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl Error for Because {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    fn because(
        text: &'static str,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Box<dyn Error + Send + Sync> {
        Box::new(Because(text, Some(cause.into())))
    }

    fn cause_of(error: &HttpError) -> &str {
        &error.0.why
    }

    fn fails<E>(error: E) -> Result<(), HttpError>
    where
        HttpError: From<E>,
    {
        Err(error)?;
        Ok(())
    }

    #[test]
    fn any_error_becomes_one() {
        let boxed: Box<dyn Error + Send + Sync> = "boxed".into();
        for (failed, cause) in [
            (fails(io::Error::other("of a file")), "of a file"),
            (fails("in words"), "in words"),
            (fails(format!("with {}", 1)), "with 1"),
            (fails(boxed), "boxed"),
        ] {
            let error = failed.unwrap_err();
            assert_eq!(error.status(), 500);
            assert_eq!(cause_of(&error), cause);
            assert_eq!(error.0.message.as_deref(), None);
        }
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        for (error, words) in [
            (because("a", because("b", "c")), "a: b: c"),
            // It names its cause itself.
            (because("a: b", because("b", "c.")), "a: b: c"),
            (because("a: b: c", because("b: c", "c")), "a: b: c"),
            (because("It failed.", "\nThe disk is full.\n"), "It failed: The disk is full"),
        ] {
            assert_eq!(cause_of(&HttpError::from(error)), words);
        }
    }

    #[test]
    fn a_status_may_have_a_cause() {
        let error = HttpError::new(StatusCode::BAD_GATEWAY).message("Try later.");
        let error = error.cause(because("no price", "timed out"));
        assert_eq!(cause_of(&error), "no price: timed out");
        assert_eq!(error.0.message.as_deref(), Some("Try later."));
        let response = error.into_http::<String>();
        assert_eq!((response.status(), &**response.body()), (StatusCode::BAD_GATEWAY, ""));
    }

    /// What the compiler is to accept.
    #[cfg(feature = "axum")]
    #[test]
    fn handlers_of_axum_return_it() {
        async fn handler() -> Result<String, HttpError> {
            Ok(std::fs::read_to_string("/nowhere/at-all")?)
        }
        let router: axum::Router = axum::Router::new().route("/", axum::routing::get(handler));
        let request = http::Request::new(axum::body::Body::empty());
        let response = event_loop::run(tower_service::Service::call(&mut { router }, request));
        let Ok(response) = response.unwrap();
        let error = response.extensions().get::<Failed>().expect("it carries the error");
        assert!(error.why.starts_with("No such file"), "{error:?}");
    }

    #[cfg(feature = "store")]
    #[test]
    fn an_unavailable_store_is_no_mistake() {
        use storage::{Schema, Store, StoreError, Trust, params};

        for error in [HttpError::from(StoreError::Busy), because("a", StoreError::Busy).into()] {
            assert_eq!(error.status(), 503);
            let said = error.0.message.as_deref();
            assert_eq!(said, Some("The site is busy. Please try again."));
            assert!(cause_of(&error).ends_with(&StoreError::Busy.to_string()), "{error:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let schema = Schema { name: "test", migrations: &[] };
        let store = Store::in_file(folder.path().join("test.db"), Trust::OwnAccount, schema);
        let mistake = store.read(async |store| {
            store.query_one::<i64>("SELECT nothing FROM nowhere", params![]).await
        });
        let mistake = HttpError::from(event_loop::run(mistake).unwrap().unwrap_err());
        assert_eq!(mistake.status(), 500);
        assert_eq!(mistake.0.message, None);
        assert!(cause_of(&mistake).contains("nowhere"), "{mistake:?}");
    }
}
