//! The command line: what to send, where, for how long, and what to expect.

use clap::Parser;
use event_loop::net::Address;

/// Sends load to a FastCGI (or HTTP) server and prints what it measured as JSON.
///
/// Always bounded: by --requests or --seconds, and by --patience if no response arrives.
#[derive(Clone, Debug, Parser)]
#[command(name = "load", version)]
pub struct Options {
    /// Where the server listens: unix:PATH or tcp:HOST:PORT.
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub to: Address,
    /// Speak HTTP/1.1 instead of FastCGI.
    #[arg(long)]
    pub http: bool,
    /// Connections that send requests at the same time.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub connections: usize,
    /// Requests in flight at once on each connection (FastCGI only).
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub in_flight: u16,
    /// Open a new connection for each request, as mod_fcgid and, by default, nginx do.
    #[arg(long)]
    pub new_connections: bool,
    /// Wait this many milliseconds before each further connection, so that the server is idle by then.
    #[arg(long, default_value_t = 0, value_name = "MILLISECONDS")]
    pub pause: u64,
    /// Additional connections that stay open after one request each and send nothing more.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub idle: usize,
    /// Responses to wait for before measuring starts.
    #[arg(long, default_value_t = 0, value_name = "REQUESTS")]
    pub warm_up: u64,
    /// Measure this many requests; the time limit still applies.
    #[arg(long, value_name = "NUMBER")]
    pub requests: Option<u64>,
    /// Measure for at most this long. Default: 3 s, or 60 s with --requests.
    #[arg(long, value_name = "SECONDS")]
    pub seconds: Option<f64>,
    /// Stop if no response has arrived for this long.
    #[arg(long, default_value_t = 5.0, value_name = "SECONDS")]
    pub patience: f64,
    /// Send a body of this many bytes, by POST.
    #[arg(long, value_name = "BYTES")]
    pub body: Option<u64>,
    /// Bytes of a body per record. nginx sends its buffers of 32 KiB, lighttpd 65,535.
    #[arg(long, default_value_t = 32 * 1024, value_name = "BYTES")]
    pub record: usize,
    /// The path to request.
    #[arg(long, default_value = "/", value_name = "PATH")]
    pub path: String,
    /// Set a FastCGI parameter, in addition to the usual ones or in place of one.
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub parameters: Vec<(String, String)>,
    /// The expected status.
    #[arg(long, default_value_t = 200, value_name = "STATUS")]
    pub expect_status: u16,
    /// The expected body.
    #[arg(long, value_name = "TEXT")]
    pub expect_text: Option<String>,
    /// The expected length of the body, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub expect_length: Option<u64>,
    /// Measure the processor time and the memory of this process and its descendants. May be
    /// given several times.
    #[arg(long = "server-pid", value_name = "PID")]
    pub server_pids: Vec<u32>,
}

impl Options {
    /// Options with nothing but an address: one request at a time on one keep-alive connection.
    pub fn to(address: Address) -> Options {
        Options {
            to: address,
            http: false,
            connections: 1,
            in_flight: 1,
            new_connections: false,
            pause: 0,
            idle: 0,
            warm_up: 0,
            requests: None,
            seconds: None,
            patience: 5.0,
            body: None,
            record: 32 * 1024,
            path: "/".to_owned(),
            parameters: Vec::new(),
            expect_status: 200,
            expect_text: None,
            expect_length: None,
            server_pids: Vec::new(),
        }
    }

    /// Returns the longest time to measure, in seconds.
    pub fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.requests.is_some() { 60.0 } else { 3.0 })
    }
}

fn address(text: &str) -> Result<Address, String> {
    text.parse().map_err(|error| format!("{error}"))
}

fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or_else(|| "write NAME=VALUE".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }

    #[test]
    fn the_command_line_and_the_short_way_agree() {
        let typed = Options::parse_from(["load", "--to", "unix:/a"]);
        let made = Options::to("unix:/a".parse().unwrap());
        assert_eq!(format!("{typed:?}"), format!("{made:?}"));
    }

    #[test]
    fn time_is_always_bounded() {
        let mut options = Options::to("unix:/a".parse().unwrap());
        assert_eq!(options.seconds(), 3.0);
        options.requests = Some(10);
        assert_eq!(options.seconds(), 60.0);
    }
}
