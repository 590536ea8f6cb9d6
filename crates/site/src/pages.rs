//! Pages: the frame that all of them share, and failures as pages.

pub mod error_page;
pub(crate) mod page;
