//! Where blobs are kept: plain data.

use std::path::PathBuf;

/// Where blobs are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlobSettings {
    /// In this folder, which is created if it is missing.
    Folder(PathBuf),
}
