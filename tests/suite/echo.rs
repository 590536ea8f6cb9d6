//! The request as `test-app` reports it, parsed from its JSON.

use end_to_end::http_client::Response;
use serde_json::Value;

/// A request as the application saw it.
#[derive(Debug)]
pub(crate) struct Echo(Value);

impl Echo {
    /// Parses a response of `/echo/…`.
    pub(crate) fn read(response: &Response) -> Result<Self, String> {
        if response.status != 200 {
            return Err(format!("status {} and body {:.300}", response.status, response.text()));
        }
        serde_json::from_slice(&response.body)
            .map(Self)
            .map_err(|error| format!("not JSON ({error}): {:.300}", response.text()))
    }

    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.0[field].as_str()
    }

    pub(crate) fn body_bytes(&self) -> Option<u64> {
        self.0["body_bytes"].as_u64()
    }

    /// All values of a header, in order.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let pairs = self.0["headers"].as_array().map(Vec::as_slice).unwrap_or_default();
        pairs.iter().filter(|pair| pair[0] == name).filter_map(|pair| pair[1].as_str()).collect()
    }
}
