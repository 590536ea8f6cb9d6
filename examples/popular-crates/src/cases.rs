//! The routes, a file for each kind of crate.

pub(crate) mod background;
pub(crate) mod clients;
pub(crate) mod computing;
pub(crate) mod databases;
pub(crate) mod layers;
pub(crate) mod logs;
pub(crate) mod templates;
pub(crate) mod tokio_parts;
pub(crate) mod values;
