//! Forms with files (`multipart/form-data`), streamed in bounded memory.
//!
//! The parser is multer's. This adds what it lacks: it buffers all of a body that is ready before it hands out the
//! first byte, and it buffers the preamble and the headers of a part without a limit. What the fields mean is the
//! tool's business.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_core::Stream;
use http::{HeaderMap, StatusCode};
use http_body::Frame;

use super::error::HttpError;
use super::media_type::MediaType;
use super::request_body::{BodyBroken, Chunks, too_large};

/// How much of a form may arrive without any of it being handed out: a preamble, or the headers of a part, which
/// browsers keep to a few hundred bytes. It leaves room for one large chunk.
const UNPRODUCTIVE_BYTES: usize = 256 * 1024;

/// A form with files, field by field; also an extractor.
///
/// Memory is bounded: about one chunk of the body, whatever the size of the files.
///
/// ```
/// # async fn read(mut form: site::Multipart) -> Result<(), site::HttpError> {
/// while let Some(mut field) = form.next_field().await? {
///     match field.name() {
///         "comment" => println!("{}", field.text(64 * 1024).await?),
///         _ => while let Some(chunk) = field.chunk().await? {
///             println!("{} more bytes", chunk.len());
///         },
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Multipart {
    parser: multer::Multipart<'static>,
    current: Option<multer::Field<'static>>,
    unproductive: Arc<AtomicUsize>,
}

impl Multipart {
    /// Returns whether a request with these headers contains such a form.
    pub fn is_in(headers: &HeaderMap) -> bool {
        MediaType::of(headers).is_some_and(|media_type| media_type.is(MediaType::FORM_DATA))
    }

    /// Parses the form in a body, by the boundary in the headers.
    ///
    /// # Errors
    ///
    /// 400 if the headers name no boundary.
    pub fn new(headers: &HeaderMap, body: Body) -> Result<Self, HttpError> {
        let media_type =
            MediaType::of(headers).filter(|media_type| media_type.is(MediaType::FORM_DATA));
        let boundary = media_type.and_then(|media_type| media_type.parameter("boundary"));
        let boundary = boundary.filter(|boundary| !boundary.is_empty()).ok_or_else(|| {
            HttpError::new(StatusCode::BAD_REQUEST)
                .message("The form does not say where its parts start and end (no boundary).")
        })?;
        let unproductive = Arc::new(AtomicUsize::new(0));
        let chunks = OneChunkAPoll {
            chunks: Chunks::new(body),
            gave_one: false,
            unproductive: unproductive.clone(),
        };
        Ok(Multipart {
            parser: multer::Multipart::new(chunks, boundary),
            current: None,
            unproductive,
        })
    }

    /// Returns the next field; the unread rest of the previous one is skipped.
    ///
    /// # Errors
    ///
    /// 400 if the form is incomplete or malformed.
    pub async fn next_field(&mut self) -> Result<Option<Field<'_>>, HttpError> {
        // The parser can skip by itself, but then its progress is not visible.
        while self.chunk().await?.is_some() {}
        // It requires the previous field to be dropped first.
        self.current = None;
        self.current = self.parser.next_field().await.map_err(into_http_error)?;
        self.unproductive.store(0, Ordering::Relaxed);
        Ok(self.current.is_some().then_some(Field { form: self }))
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        let Some(field) = &mut self.current else { return Ok(None) };
        let chunk = field.chunk().await.map_err(into_http_error)?;
        self.unproductive.store(0, Ordering::Relaxed);
        Ok(chunk)
    }
}

impl<S: Sync> FromRequest<S> for Multipart {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        Multipart::new(&parts.headers, body).map_err(IntoResponse::into_response)
    }
}

/// One field of a form.
#[derive(Debug)]
pub struct Field<'form> {
    form: &'form mut Multipart,
}

impl Field<'_> {
    /// Returns the name of the field; empty if the client sent none.
    pub fn name(&self) -> &str {
        self.form.current.as_ref().and_then(|field| field.name()).unwrap_or("")
    }

    /// Returns the file name, for a field that holds a file. An empty one means that no file was chosen. Browsers send
    /// the bare name; a path from another client is reduced to it.
    pub fn file_name(&self) -> Option<&str> {
        let name = self.form.current.as_ref()?.file_name()?;
        Some(name.rsplit(['/', '\\']).next().unwrap_or(name))
    }

    /// Returns the next chunk of the field's content, and `None` at its end.
    ///
    /// # Errors
    ///
    /// 400 if the form is incomplete or malformed.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, HttpError> {
        self.form.chunk().await
    }

    /// Reads the whole field as text of at most `limit` bytes. Invalid UTF-8 is replaced.
    ///
    /// # Errors
    ///
    /// 413 that names the limit; 400 if the form is incomplete or malformed.
    pub async fn text(mut self, limit: usize) -> Result<String, HttpError> {
        let mut text = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if text.len() + chunk.len() > limit {
                return Err(too_large(limit as u64));
            }
            text.extend_from_slice(&chunk);
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The rest of the content, to be stored as a blob.
impl http_body::Body for Field<'_> {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let form = &mut *self.get_mut().form;
        let Some(field) = &mut form.current else { return Poll::Ready(None) };
        let chunk = ready!(Pin::new(field).poll_next(context));
        form.unproductive.store(0, Ordering::Relaxed);
        Poll::Ready(chunk.map(|chunk| chunk.map(Frame::data).map_err(Into::into)))
    }
}

/// The body as the parser sees it: after each chunk it is pending for one poll, because the parser polls until it is,
/// and would otherwise buffer the whole of a body that has already arrived.
struct OneChunkAPoll {
    chunks: Chunks,
    gave_one: bool,
    unproductive: Arc<AtomicUsize>,
}

impl Stream for OneChunkAPoll {
    type Item = Result<Bytes, Box<dyn std::error::Error + Send + Sync>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if std::mem::take(&mut self.gave_one) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = Pin::new(&mut self.chunks).poll_next(context);
        if let Poll::Ready(Some(Ok(chunk))) = &polled {
            self.gave_one = true;
            let before = self.unproductive.fetch_add(chunk.len(), Ordering::Relaxed);
            if before > UNPRODUCTIVE_BYTES {
                return Poll::Ready(Some(Err("a part of the form has no end".into())));
            }
        }
        polled.map(|chunk| chunk.map(|chunk| chunk.map_err(Into::into)))
    }
}

pub(super) fn into_http_error(error: multer::Error) -> HttpError {
    match error {
        multer::Error::StreamReadFailed(cause) => match cause.downcast::<BodyBroken>() {
            Ok(broken) => (*broken).into(),
            Err(cause) => malformed(&*cause),
        },
        multer::Error::IncompleteStream
        | multer::Error::IncompleteFieldData { .. }
        | multer::Error::IncompleteHeaders => HttpError::new(StatusCode::BAD_REQUEST)
            .title("Upload incomplete")
            .message("The form ended before its last part was complete. Please send it again."),
        other => malformed(&other),
    }
}

fn malformed(cause: &dyn std::error::Error) -> HttpError {
    tracing::info!("Malformed form: {cause}.");
    HttpError::new(StatusCode::BAD_REQUEST)
        .message("The form could not be understood. Please go back to the page and send it again.")
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;
    use crate::testing::{block_on, body_of_chunks, body_that_breaks_off};

    const FORM: &str = "--X\r\nContent-Disposition: form-data; name=\"text\"\r\n\r\nhello\r\n\
        --X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"C:\\dir\\a b.txt\"\r\n\
        Content-Type: text/plain\r\n\r\none\r\n--Y two\r\n--X--\r\n";

    fn headers(content_type: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())])
    }

    fn fields_of(body: Body) -> Result<Vec<(String, Option<String>, String)>, HttpError> {
        block_on(async {
            let mut form = Multipart::new(&headers("multipart/form-data; boundary=X"), body)?;
            let mut fields = Vec::new();
            while let Some(field) = form.next_field().await? {
                let name = field.name().to_owned();
                let file_name = field.file_name().map(str::to_owned);
                fields.push((name, file_name, field.text(1024 * 1024).await?));
            }
            Ok(fields)
        })
    }

    #[test]
    fn a_form_parses_the_same_however_it_is_split() {
        let whole = fields_of(Body::from(FORM)).unwrap();
        assert_eq!(
            whole,
            [
                ("text".into(), None, "hello".into()),
                ("file".into(), Some("a b.txt".into()), "one\r\n--Y two".into()),
            ]
        );
        for size in 1..FORM.len() {
            let pieces: Vec<_> = FORM
                .as_bytes()
                .chunks(size)
                .map(|piece| String::from_utf8_lossy(piece).into_owned())
                .collect();
            assert_eq!(fields_of(body_of_chunks(pieces)).unwrap(), whole, "in pieces of {size}");
        }
    }

    #[test]
    fn a_truncated_form_is_an_error_and_never_hangs() {
        // The form is complete once the last boundary is.
        for length in 0..FORM.len() - "\r\n".len() {
            let error = fields_of(Body::from(&FORM[..length])).unwrap_err();
            assert_eq!(error.status(), 400, "after {length} bytes");
            let error = fields_of(body_that_breaks_off([&FORM[..length]])).unwrap_err();
            assert_eq!(error.status(), 400, "broken off after {length} bytes");
        }
    }

    #[test]
    fn endless_headers_and_preambles_are_refused_and_files_are_not() {
        let piece = "x".repeat(64 * 1024);
        let many = |start: &str, end: &str| {
            let mut pieces = vec![start.to_owned()];
            pieces.extend(vec![piece.clone(); 10]);
            pieces.push(end.to_owned());
            body_of_chunks(pieces)
        };
        let start = "--X\r\nContent-Disposition: form-data; name=\"a\"";
        let endless_header = many(start, "\r\n\r\na\r\n--X--");
        assert_eq!(fields_of(endless_header).unwrap_err().status(), 400);
        assert_eq!(fields_of(many("", FORM)).unwrap_err().status(), 400);
        let large = fields_of(many(&format!("{start}\r\n\r\n"), "\r\n--X--")).unwrap();
        assert_eq!(large[0].2.len(), 10 * 64 * 1024);
    }

    #[test]
    fn an_unread_field_may_be_large() {
        let mut pieces =
            vec!["--X\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n".to_owned()];
        pieces.extend(vec!["x".repeat(64 * 1024); 10]);
        pieces.push("\r\n".to_owned() + FORM);
        block_on(async {
            let headers = headers("multipart/form-data; boundary=X");
            let mut form = Multipart::new(&headers, body_of_chunks(pieces)).unwrap();
            for expected in ["a", "text"] {
                assert_eq!(form.next_field().await.unwrap().unwrap().name(), expected);
            }
        });
    }

    #[test]
    fn a_body_that_has_arrived_is_buffered_chunk_by_chunk() {
        const CHUNK: &[u8] = &[b'x'; 64 * 1024];
        struct Endless {
            polled: Arc<AtomicUsize>,
        }
        impl http_body::Body for Endless {
            type Data = Bytes;
            type Error = std::convert::Infallible;

            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
                const START: &str =
                    "--X\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n";
                let chunk = match self.polled.fetch_add(1, Ordering::Relaxed) {
                    0 => START.as_bytes(),
                    _ => CHUNK,
                };
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(chunk)))))
            }
        }

        let polled = Arc::new(AtomicUsize::new(0));
        let body = Body::new(Endless { polled: polled.clone() });
        let headers = headers("multipart/form-data; boundary=X");
        block_on(async {
            let mut form = Multipart::new(&headers, body).unwrap();
            let mut field = form.next_field().await.unwrap().unwrap();
            let mut read = 0;
            while read < 10_000_000 {
                read += field.chunk().await.unwrap().unwrap().len();
                let taken_in = polled.load(Ordering::Relaxed) * CHUNK.len();
                assert!(taken_in <= read + 3 * CHUNK.len(), "{taken_in} for {read}");
            }
        });
    }

    #[test]
    fn only_multipart_forms_are_recognized() {
        for (content_type, expected) in [
            ("multipart/form-data; boundary=X", true),
            ("Multipart/Form-Data ;boundary=X", true),
            ("multipart/mixed; boundary=X", false),
            ("application/x-www-form-urlencoded", false),
            ("", false),
        ] {
            assert_eq!(Multipart::is_in(&headers(content_type)), expected, "{content_type}");
        }
        assert_eq!(
            Multipart::new(&headers("multipart/form-data"), Body::empty()).unwrap_err().status(),
            400
        );
    }
}
