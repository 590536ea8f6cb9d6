//! The pages that visitors get when the process cannot continue, built in advance and encoded for each transport,
//! because a signal handler cannot build any. `settle.rs` decides who gets which.

use std::cell::{Cell, RefCell};
use std::io;

use bytes::{BufMut, Bytes, BytesMut};
use fastcgi_server::{Header, RecordType, RequestId};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, Response};

use super::prepared::{self, Replies, Reply};
use super::tables::ReplyFormat;
use crate::cause::Cause;
use crate::cgi_vars::base_path::BasePath;
use crate::cgi_vars::http_to_cgi::{announced_length, write_head};
use crate::error_report::ErrorReport;
use crate::host::Host;

/// Which pages are prepared now.
#[derive(Default)]
pub(crate) struct Pages {
    base: RefCell<Option<BasePath>>,
    /// How often pages have been prepared.
    count: Cell<u32>,
}

impl Pages {
    /// How often pages are prepared at most: each change of BASE leaks the former ones. After that, the last ones
    /// stay.
    const MAX: u32 = 16;

    /// Prepares the pages for a site mounted at `base`, which their links contain, unless that has been done. Called
    /// with each request; the first call renders three error pages.
    pub(crate) fn prepare(
        &self,
        format: ReplyFormat,
        host: &dyn Host,
        base: &BasePath,
        is_behind_mod_fcgid: bool,
    ) {
        if format == ReplyFormat::Cgi
            || self.base.borrow().as_ref().is_some_and(|it| it.as_str() == base.as_str())
            || self.count.get() >= Self::MAX
        {
            return;
        }
        self.count.set(self.count.get() + 1);
        *self.base.borrow_mut() = Some(base.clone());
        let page = |cause| {
            let page = host.error_page(&ErrorReport::prepared(cause, base.clone()));
            // With its head it fits into one record.
            if page.body().len() <= MAX_PAGE_BYTES { page } else { plain(cause_of(&page)) }
        };
        let replies = Replies { cut_when_alone: is_behind_mod_fcgid, ..replies(format, page) };
        if let Err(error) = prepared::prepare(format, &replies) {
            tracing::warn!("Cannot prepare the pages for a crash: {error}.");
        }
    }
}

/// Prepares plain pages, for a process that serves only one request: rendering the site's takes time.
pub(super) fn prepare_plain(format: ReplyFormat) -> io::Result<()> {
    prepared::prepare(format, &replies(format, plain))
}

/// The longest page that is prepared, in bytes of its body; a longer one is replaced by a plain one.
const MAX_PAGE_BYTES: usize = 48 * 1024;

/// Returns the cause that a page was made for, by its status.
fn cause_of(page: &Response<Bytes>) -> Cause {
    match page.status().as_u16() {
        503 => Cause::Interrupted,
        504 => Cause::Stalled,
        _ => Cause::Crashed,
    }
}

fn replies(format: ReplyFormat, page: impl Fn(Cause) -> Response<Bytes>) -> Replies {
    let reply = |cause| {
        let page = page(cause);
        match format {
            ReplyFormat::FastCgi => over_fastcgi(page),
            ReplyFormat::Http => over_http(page),
            ReplyFormat::Cgi => Reply { bytes: as_cgi(page), ..Reply::default() },
        }
    };
    Replies {
        failed: reply(Cause::Crashed),
        interrupted: reply(Cause::Interrupted),
        stalled: reply(Cause::Stalled),
        cut: (format == ReplyFormat::FastCgi).then(|| end_of_request(1)),
        cut_when_alone: false,
    }
}

/// Builds a page without a template.
fn plain(cause: Cause) -> Response<Bytes> {
    let report = ErrorReport::prepared(cause, BasePath::default());
    let status = report.status;
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
         <h1>{status}</h1><p>The request could not be answered. This is not your fault; the error has been \
         logged.</p><p>Reference: {}</p></html>\n",
        report.reference
    );
    let mut page = Response::new(Bytes::from(html));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if status == http::StatusCode::SERVICE_UNAVAILABLE {
        page.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    page
}

fn as_cgi(page: Response<Bytes>) -> Vec<u8> {
    let (head, body) = page.into_parts();
    let mut bytes = BytesMut::new();
    let length = announced_length(&Method::GET, &head, Some(body.len() as u64));
    write_head(&head, length, &mut bytes);
    bytes.put_slice(&body);
    bytes.into()
}

/// Stands in for the request's id, which is filled in later.
const ANY_ID: RequestId = RequestId::ONE;

fn over_fastcgi(page: Response<Bytes>) -> Reply {
    let content = as_cgi(page);
    let mut reply = Reply::default();
    for piece in content.chunks(usize::from(u16::MAX)) {
        put_record(&mut reply, RecordType::Stdout, piece);
    }
    let end = end_of_request(0);
    reply.ids.extend(end.ids.iter().map(|at| at + reply.bytes.len()));
    reply.bytes.extend_from_slice(&end.bytes);
    reply
}

/// The end of STDOUT and END_REQUEST (FastCGI 1.0 §5.5).
fn end_of_request(app_status: u8) -> Reply {
    let mut reply = Reply::default();
    put_record(&mut reply, RecordType::Stdout, &[]);
    put_record(&mut reply, RecordType::EndRequest, &[0, 0, 0, app_status, 0, 0, 0, 0]);
    reply
}

fn put_record(reply: &mut Reply, record_type: RecordType, content: &[u8]) {
    /// The offset of the id in a record header (FastCGI 1.0 §3.3).
    const ID_AT: usize = 2;
    reply.ids.push(reply.bytes.len() + ID_AT);
    let header = Header::new(record_type, Some(ANY_ID), content.len());
    reply.bytes.extend_from_slice(&header.encode());
    reply.bytes.extend_from_slice(content);
}

fn over_http(page: Response<Bytes>) -> Reply {
    let (mut head, body) = page.into_parts();
    head.headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    let mut bytes = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let without_body = Some(bytes.len());
    bytes.extend_from_slice(&body);
    Reply { bytes, without_body, ..Reply::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_report::PLACEHOLDER;

    #[test]
    fn every_page_has_the_placeholder_of_the_reference() {
        for format in [ReplyFormat::FastCgi, ReplyFormat::Http, ReplyFormat::Cgi] {
            for page in [plain, |cause| {
                crate::error_report::plain_text(&ErrorReport::prepared(cause, BasePath::default()))
            }] {
                let replies = replies(format, page);
                for (reply, status) in [
                    (&replies.failed, "500"),
                    (&replies.interrupted, "503"),
                    (&replies.stalled, "504"),
                ] {
                    let text = String::from_utf8_lossy(&reply.bytes);
                    assert_eq!(text.matches(PLACEHOLDER).count(), 1, "{format:?}: {text}");
                    assert!(text.contains(status), "{format:?}: {text}");
                }
                assert_eq!(replies.cut.is_some(), format == ReplyFormat::FastCgi);
            }
        }
    }

    #[test]
    fn fastcgi_ids_are_at_the_offsets_of_the_headers() {
        let reply = over_fastcgi(plain(Cause::Crashed));
        let mut bytes = &reply.bytes[..];
        let mut at = 0;
        let mut ids = Vec::new();
        let mut types = Vec::new();
        while let Some(header) = bytes.first_chunk() {
            let header = Header::decode(*header).unwrap();
            ids.push(at + 2);
            types.push(header.record_type);
            let length = 8 + usize::from(header.content_length);
            at += length;
            bytes = &bytes[length..];
        }
        assert_eq!(ids, reply.ids);
        assert_eq!(
            types,
            [RecordType::Stdout, RecordType::Stdout, RecordType::EndRequest].map(|it| it as u8)
        );
        assert!(bytes.is_empty());
    }
}
