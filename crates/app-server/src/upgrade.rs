//! How a process learns of a newer version of its program, checks it, and becomes it.

pub(crate) mod handover;
pub(crate) mod upgrader;
