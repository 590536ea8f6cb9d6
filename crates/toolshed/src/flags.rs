//! The site's own commands. What they mean is in `commands/`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tools of the site and who may use them.
    Tools,
    #[command(flatten)]
    Password(hosted_login::commands::Command),
    #[command(flatten)]
    Store(hosted::store::Command),
    Blobs(Blobs),
}

/// Show where the site's blobs are, how many, and how large.
#[derive(Debug, Args)]
#[command(after_help = "Blobs are the large values that tools keep, such as uploads.")]
pub(crate) struct Blobs {
    #[command(subcommand)]
    pub(crate) command: Option<BlobsCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BlobsCommand {
    Copy(CopyBlobs),
}

/// Copy all blobs to another place: as a backup, or to move the site.
#[derive(Debug, Args)]
#[command(
    after_help = "A place is a folder, or s3 for the bucket that is set by s3_endpoint and others;\n\
                  without FROM, the site's own blobs are copied. Works while the site is in use.\n\
                  What is there already is passed over: run it again if it was interrupted, and\n\
                  for what was put since (docs/storing.md)."
)]
pub(crate) struct CopyBlobs {
    /// From where, and to where.
    #[arg(value_name = "[FROM] TO", required = true, num_args = 1..=2)]
    pub(crate) places: Vec<String>,
}
