//! Somebody ran `./dispatch.fcgi` in a shell: what it is and what to do.

/// Whether the launcher started the program.
pub(crate) fn is_asked_for() -> bool {
    std::env::var_os("TOOLSHED_LAUNCHER").is_some()
}

/// Explains.
pub(crate) fn run() -> Result<(), app_server::Error> {
    println!(
        "The launcher found the program {} and it runs.\n\
         \n\
         dispatch.fcgi is started by the web server (FastCGI), not by hand: open the site's address \
         in a browser.\n\
         To see the site without a web server, run the program itself: toolshed serve",
        concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION"))
    );
    Ok(())
}
