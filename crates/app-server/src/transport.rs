//! How bytes become requests and responses bytes, one file a transport. No transport knows another.

pub(crate) mod cgi;
pub(crate) mod fastcgi;
pub(crate) mod http;
pub(crate) mod shell;
mod single;
