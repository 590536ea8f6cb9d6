//! The site's own commands. What they mean is in `commands/`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the tools of the site and who may use them.
    Tools,
    /// Set the owner's password in toolshed.toml.
    #[command(after_help = "Asks for the password, or reads it from standard input:\n\
                      printf %s 'my long password' | toolshed set-password\n\
                      The rest of the file stays unchanged. All sessions end.")]
    SetPassword,
    /// Print the line that sets the owner's password in toolshed.toml.
    #[command(after_help = "Asks for the password, or reads it from standard input:\n\
                      printf %s 'my long password' | toolshed hash-password")]
    HashPassword,
    Backup(Backup),
    Restore(Restore),
    Store(Store),
    Blobs(Blobs),
}

/// Back up the store: sessions, and the rows of all tools.
#[derive(Debug, Args)]
#[command(
    after_help = "Works while the site is in use. The copy contains secrets; its mode is 600.\n\
                  Restore it with toolshed restore. Blobs are not in it; see toolshed blobs."
)]
pub(crate) struct Backup {
    /// Where to write it; replaced atomically.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Put a backup in the place of the store.
#[derive(Debug, Args)]
#[command(
    after_help = "Works while the site is in use; running processes notice. What was there is kept\n\
                  as data/toolshed.db-replaced until the next time."
)]
pub(crate) struct Restore {
    /// A file made by toolshed backup; it stays where it is.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// Show where the store is, how large, and what is in it.
#[derive(Debug, Args)]
#[command(after_help = "Works while the site is in use.")]
pub(crate) struct Store {
    #[command(subcommand)]
    pub(crate) command: Option<StoreCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read all of the store and report damage.
    Check,
    Move(Move),
}

/// Move the store to a database of PostgreSQL, or back into a file.
#[derive(Debug, Args)]
#[command(
    after_help = "A place is the path of a file or a postgres:// URL; without FROM, the configured\n\
                  one is moved. Meanwhile the site can read and not write; afterwards, set\n\
                  database (docs/storing.md). If it is interrupted, run it again."
)]
pub(crate) struct Move {
    /// From where, and to where there is nothing yet.
    #[arg(value_name = "[FROM] TO", required = true, num_args = 1..=2)]
    pub(crate) places: Vec<String>,
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
