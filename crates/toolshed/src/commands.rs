//! What the program can be told to do, one file a command.

pub(crate) mod cgi;
pub(crate) mod fastcgi;
pub(crate) mod launched;
pub(crate) mod serve;
pub(crate) mod spawned;
