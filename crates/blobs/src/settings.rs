//! Where blobs are kept: plain data.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobSettings {
    /// In this folder, which is created if it is missing.
    Folder(PathBuf),
    /// In a bucket of an S3-compatible store.
    S3(S3Settings),
}

/// A bucket and how to reach it. `Debug` shows neither of the keys.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct S3Settings {
    /// The server, such as `https://s3.eu-central-1.amazonaws.com`: `http` or `https`, and nothing after host and port.
    pub endpoint: String,
    /// The region, such as `eu-central-1`; many stores of other makers accept `us-east-1`.
    pub region: String,
    /// The bucket, which has to exist.
    pub bucket: String,
    /// The access key.
    pub access_key: String,
    /// The secret key.
    pub secret_key: String,
    /// How the bucket is named in an address. Default: [`AddressStyle::Path`], which all stores but AWS's newest
    /// regions offer.
    pub style: AddressStyle,
    /// What the names of all objects start with: empty (default), or segments of a key with a slash at the end. So a
    /// bucket may be used for other things, too. At most 256 bytes.
    pub prefix: String,
    /// Whether visitors can reach the server, so that [`presigned_get`](crate::Blobs::presigned_get) has addresses for
    /// them. Default true.
    pub has_addresses: bool,
    /// A file with the certificates (PEM) of the authorities to trust in place of the system's.
    pub certificates: Option<PathBuf>,
    /// How many requests may be in flight at a time, from 1 to 1000; others wait. A blob that is read counts until its
    /// end, however slow the reader is. Default 32. Each takes a descriptor.
    pub max_connections: usize,
    /// How many puts of more than 128 KiB may be in flight at a time, from 1 to 1000; others wait. Each holds up to 8 MiB
    /// in memory. Default 16: 128 MiB.
    pub max_uploads: usize,
    /// How long the server may take to respond, and between two pieces of a response. Default 30 s. A large request may
    /// take longer: a second for each 64 KiB.
    pub response_timeout: Duration,
}

/// How a bucket is named in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressStyle {
    /// `https://ENDPOINT/BUCKET/KEY`
    Path,
    /// `https://BUCKET.ENDPOINT/KEY`
    VirtualHost,
}

impl S3Settings {
    /// Returns settings with the defaults for what is optional.
    pub fn new(
        endpoint: impl Into<String>,
        region: impl Into<String>,
        bucket: impl Into<String>,
        access_key: impl Into<String>,
        secret_key: impl Into<String>,
    ) -> Self {
        S3Settings {
            endpoint: endpoint.into(),
            region: region.into(),
            bucket: bucket.into(),
            access_key: access_key.into(),
            secret_key: secret_key.into(),
            style: AddressStyle::Path,
            prefix: String::new(),
            has_addresses: true,
            certificates: None,
            max_connections: 32,
            max_uploads: 16,
            response_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("bucket", &self.bucket)
            .field("style", &self.style)
            .field("prefix", &self.prefix)
            .field("has_addresses", &self.has_addresses)
            .field("certificates", &self.certificates)
            .field("max_connections", &self.max_connections)
            .field("max_uploads", &self.max_uploads)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}
