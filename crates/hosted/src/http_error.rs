//! What a handler returns when it fails: the server logs why, under a reference, and makes the page.

use std::error::Error;
use std::fmt;

use app_server::Failed;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Empty;

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
/// With the feature `store`, a [`StoreError`](crate::store::StoreError) is a 503 unless the statement is wrong: the data is unavailable for
/// now. As a response of axum's it needs the feature `axum`, elsewhere [`into_http`](Self::into_http). It is no `Error` itself.
pub struct HttpError(Failed);

impl HttpError {
    /// An error with this status. A client error (4xx) is not logged.
    pub fn new(status: StatusCode) -> Self {
        HttpError(Failed { status, message: None, why: "no cause given".to_owned() })
    }

    /// Sets what the visitor reads, beside the status: sentences.
    #[must_use]
    pub fn message(mut self, message: impl Into<String>) -> Self {
        self.0.message = Some(message.into());
        self
    }

    /// Sets the cause, for the log only. Without a period at its end.
    #[must_use]
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.0.why = cause.to_string();
        self
    }

    /// Returns the status.
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Returns it as a response without a page, which the server makes.
    pub fn into_http(self) -> Response<Empty<Bytes>> {
        let mut response = Response::new(Empty::new());
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
        HttpError::new(status_of(&*error)).cause(Causes(&*error))
    }
}

#[cfg(feature = "store")]
fn status_of(error: &(dyn Error + 'static)) -> StatusCode {
    match error.downcast_ref::<storage::StoreError>() {
        Some(error) if !error.is_mistake() => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(not(feature = "store"))]
fn status_of(_: &(dyn Error + 'static)) -> StatusCode {
    StatusCode::INTERNAL_SERVER_ERROR
}

/// An error and its causes, on one line: each that the one before does not tell already.
struct Causes<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Causes<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut told = self.0.to_string();
        formatter.write_str(&told)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            let text = error.to_string();
            if !told.contains(&text) {
                write!(formatter, ": {text}")?;
                told = text;
            }
            source = error.source();
        }
        Ok(())
    }
}

#[cfg(feature = "axum")]
impl axum_core::response::IntoResponse for HttpError {
    fn into_response(self) -> axum_core::response::Response {
        self.into_http().map(axum_core::body::Body::new)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("the guest book cannot be read")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    fn fails() -> Result<(), HttpError> {
        Err(Outer(io::Error::other("no such file")))?;
        Ok(())
    }

    #[test]
    fn any_error_becomes_one_with_its_causes() {
        let error = fails().unwrap_err();
        assert_eq!(error.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(error.0.why, "the guest book cannot be read: no such file");
        let text: HttpError = "a text will do".into();
        assert_eq!(text.0.why, "a text will do");
        let response = HttpError::new(StatusCode::GONE).message("It was here.").into_http();
        assert_eq!(response.status(), StatusCode::GONE);
        let failed = response.extensions().get::<Failed>().unwrap();
        assert_eq!(failed.message.as_deref(), Some("It was here."));
    }

    #[cfg(feature = "store")]
    #[test]
    fn data_that_is_unavailable_is_a_503() {
        use storage::StoreError;

        let error: HttpError = StoreError::Busy.into();
        assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
