//! Pages: the frame that all of them share, the templates, and failures as pages.
//!
//! Pages take values ([`frame::Frame`]); the visitor was identified before.

pub mod error_page;
pub(crate) mod frame;
pub(crate) mod page;
pub(crate) mod templates;
