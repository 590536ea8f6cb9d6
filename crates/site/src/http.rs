//! What HTTP says, apart from any page: negotiation, media types, compression, byte ranges, static files, downloads,
//! bodies.
//!
//! Knows neither a page nor the login. What fails is a value ([`error::HttpError`]), which `pages/` shows.

pub(crate) mod accept_encoding;
pub mod assets;
pub(crate) mod base_path;
mod byte_range;
pub(crate) mod compress;
pub(crate) mod download;
pub(crate) mod error;
pub(crate) mod error_words;
pub(crate) mod file_body;
mod file_request;
pub(crate) mod format;
pub(crate) mod media_type;
pub(crate) mod multipart;
mod parameters;
pub(crate) mod put_back;
pub(crate) mod request_body;
pub(crate) mod security_headers;
