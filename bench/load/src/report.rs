//! The results of a run, also as JSON.

use serde_json::{Value, json};

use crate::latencies::Percentiles;
use crate::process::{Memory, Processor};

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Responses in the measured part.
    pub responses: u64,
    /// Those that were as expected.
    pub good_responses: u64,
    /// The duration of the measured part.
    pub seconds: f64,
    /// How long the responses took.
    pub latencies: Percentiles,
    /// The server's processor time in the measured part.
    pub processor: Processor,
    /// The server's memory before the run.
    pub before: Memory,
    /// The server's memory with the idle connections open.
    pub with_idle: Memory,
    /// The server's memory after the run, with connections still open.
    pub after: Memory,
    /// What went wrong, over the whole run.
    pub errors: Errors,
}

/// What went wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// Responses with an unexpected status or body, and requests that were refused.
    pub bad_responses: u64,
    /// Requests that were sent and never answered.
    pub missing_responses: u64,
    /// Connections, including idle ones, that were open for the whole run without a single response.
    pub connections_never_served: u64,
    /// Connects that failed, and connections that broke.
    pub failed_connections: u64,
    /// Idle connections that the server closed.
    pub idle_connections_lost: u64,
    /// The first of them, as a sentence.
    pub first: String,
}

impl Errors {
    /// Keeps the message of the first error.
    pub fn note(&mut self, what: String) {
        if self.first.is_empty() {
            self.first = what;
        }
    }

    /// Whether nothing went wrong.
    pub fn is_empty(&self) -> bool {
        let Errors {
            bad_responses,
            missing_responses,
            connections_never_served,
            failed_connections,
            idle_connections_lost,
            first: _,
        } = self;
        [
            bad_responses,
            missing_responses,
            connections_never_served,
            failed_connections,
            idle_connections_lost,
        ]
        .iter()
        .all(|number| **number == 0)
    }
}

impl Report {
    /// Returns the server's processor time per response, in microseconds.
    pub fn processor_us_per_request(&self) -> f64 {
        self.per_request(self.processor.total_us)
    }

    fn per_request(&self, sum: f64) -> f64 {
        if self.responses == 0 { 0.0 } else { sum / self.responses as f64 }
    }

    /// Converts everything to JSON.
    pub fn to_json(&self) -> Value {
        let latencies = &self.latencies;
        let requests_per_second =
            if self.seconds > 0.0 { self.responses as f64 / self.seconds } else { 0.0 };
        json!({
            "responses": self.responses,
            "good_responses": self.good_responses,
            "seconds": rounded(self.seconds, 3),
            "requests_per_second": rounded(requests_per_second, 1),
            "latency_us": {
                "p50": rounded(latencies.p50, 1),
                "p90": rounded(latencies.p90, 1),
                "p99": rounded(latencies.p99, 1),
                "p99.9": rounded(latencies.p999, 1),
                "max": rounded(latencies.max, 1),
                "mean": rounded(latencies.mean, 1),
            },
            "server": {
                "cpu_us_per_request": rounded(self.processor_us_per_request(), 3),
                "user_us_per_request": rounded(self.per_request(self.processor.user_us), 3),
                "system_us_per_request": rounded(self.per_request(self.processor.system_us), 3),
                "resident_before_kib": self.before.resident_kib,
                "peak_before_kib": self.before.peak_kib,
                "resident_with_idle_kib": self.with_idle.resident_kib,
                "resident_after_kib": self.after.resident_kib,
                "peak_kib": self.after.peak_kib,
                "processes": self.after.processes,
            },
            "errors": {
                "bad_responses": self.errors.bad_responses,
                "missing_responses": self.errors.missing_responses,
                "connections_never_served": self.errors.connections_never_served,
                "failed_connections": self.errors.failed_connections,
                "idle_connections_lost": self.errors.idle_connections_lost,
                "first": self.errors.first,
            },
        })
    }
}

fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}
