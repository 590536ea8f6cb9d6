//! Converts CGI variables (RFC 3875) to an HTTP request, and an HTTP response head back to CGI's form.
//! Shared by the FastCGI and CGI transports, and by HTTP where a proxy is trusted.

pub(crate) mod base_path;
pub(crate) mod cgi_headers;
pub(crate) mod cgi_to_http;
pub(crate) mod forwarded;
pub(crate) mod gateway;
pub(crate) mod http_to_cgi;
