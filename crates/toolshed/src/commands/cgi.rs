//! A web server runs the program as plain CGI: an answer that says so, instead of
//! "End of script output before headers".

/// Whether the environment is CGI's (RFC 3875 §4.1.4).
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os("GATEWAY_INTERFACE").is_some()
}

/// Answers the request with what to change.
pub(crate) fn run() -> Result<(), app_server::Error> {
    print!(
        "Status: 501 Not Implemented\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
         The web server runs this program as CGI. It wants FastCGI (mod_fcgid): see \
         docs/deploying.md.\n"
    );
    Ok(())
}
