//! The parameters of a request, as Apache's mod_fcgid sends them for a page behind rewrite rules.

use crate::options::Options;

/// Builds the parameters of one request: about 25 variables, about 1 KB.
///
/// The names, their order and the lengths of the values are those of Apache 2.4 with mod_fcgid 2.3.9
/// and a request from a typical browser.
pub fn of(options: &Options) -> Vec<(String, String)> {
    let method = if options.body.is_some() { "POST" } else { "GET" };
    let path = options.path.as_str();
    let (path_info, query) = path.split_once('?').unwrap_or((path, ""));
    let length = options.body.unwrap_or(0).to_string();
    let translated = format!("redirect:/dispatch.fcgi{path_info}");
    let mut parameters: Vec<(String, String)> = [
        ("REDIRECT_STATUS", "200"),
        ("HTTP_HOST", "tools.example.org"),
        (
            "HTTP_USER_AGENT",
            "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
        ),
        ("HTTP_ACCEPT", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
        ("HTTP_ACCEPT_LANGUAGE", "de,en-US;q=0.7,en;q=0.3"),
        ("HTTP_ACCEPT_ENCODING", "gzip, deflate, br, zstd"),
        ("HTTP_COOKIE", "session=4f1c0b7ad95e4b0c8c7a2f6d; theme=dark"),
        ("HTTP_UPGRADE_INSECURE_REQUESTS", "1"),
        ("HTTP_CACHE_CONTROL", "max-age=0"),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("SERVER_SOFTWARE", "Apache/2.4.62 (Debian) mod_fcgid/2.3.9"),
        ("SERVER_NAME", "tools.example.org"),
        ("SERVER_ADMIN", "webmaster@tools.example.org"),
        ("REQUEST_SCHEME", "http"),
        ("CONTEXT_DOCUMENT_ROOT", "/home/owner/public_html"),
        ("SERVER_ADDR", "192.0.2.10"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "198.51.100.23"),
        ("DOCUMENT_ROOT", "/home/owner/public_html"),
        ("SCRIPT_FILENAME", "/home/owner/public_html/dispatch.fcgi"),
        ("REMOTE_PORT", "51324"),
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("REQUEST_METHOD", method),
        ("QUERY_STRING", query),
        ("REQUEST_URI", path),
        ("SCRIPT_NAME", "/dispatch.fcgi"),
        ("PATH_INFO", path_info),
        ("PATH_TRANSLATED", &translated),
        ("CONTENT_LENGTH", &length),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    if options.body.is_some() {
        parameters.push(("CONTENT_TYPE".to_owned(), "application/octet-stream".to_owned()));
    }
    for (name, value) in &options.parameters {
        match parameters.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => known.clone_from(value),
            None => parameters.push((name.clone(), value.clone())),
        }
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> Options {
        Options::to("unix:/a".parse().unwrap())
    }

    fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
        parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn a_get_is_as_large_as_apaches() {
        let parameters = of(&options());
        assert!((25..=30).contains(&parameters.len()), "{}", parameters.len());
        let bytes: usize = parameters.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!((900..=1200).contains(&bytes), "{bytes}");
        assert_eq!(value(&parameters, "REQUEST_METHOD"), Some("GET"));
        assert_eq!(value(&parameters, "CONTENT_LENGTH"), Some("0"));
        assert_eq!(value(&parameters, "CONTENT_TYPE"), None);
    }

    #[test]
    fn a_post_has_a_length_and_a_type() {
        let parameters = of(&Options { body: Some(5), ..options() });
        assert_eq!(value(&parameters, "REQUEST_METHOD"), Some("POST"));
        assert_eq!(value(&parameters, "CONTENT_LENGTH"), Some("5"));
        assert!(value(&parameters, "CONTENT_TYPE").is_some());
    }

    #[test]
    fn path_and_query_go_where_they_belong() {
        let parameters = of(&Options { path: "/a/b?c=d".to_owned(), ..options() });
        assert_eq!(value(&parameters, "REQUEST_URI"), Some("/a/b?c=d"));
        assert_eq!(value(&parameters, "PATH_INFO"), Some("/a/b"));
        assert_eq!(value(&parameters, "QUERY_STRING"), Some("c=d"));
    }

    #[test]
    fn parameters_are_replaced_and_added() {
        let given = vec![
            ("SCRIPT_FILENAME".to_owned(), "/x.php".to_owned()),
            ("NEW".to_owned(), "1".to_owned()),
        ];
        let parameters = of(&Options { parameters: given, ..options() });
        assert_eq!(value(&parameters, "SCRIPT_FILENAME"), Some("/x.php"));
        assert_eq!(parameters.last(), Some(&("NEW".to_owned(), "1".to_owned())));
    }
}
