//! The tools: a table and one folder each.
//!
//! `table.rs` lists them; a folder holds `logic.rs` (values in, values out), `mod.rs` (thin handlers),
//! `page.html` and `tests.rs`. How to add one is told in `docs/adding-a-tool.md`. What a tool *is*, and
//! all that surrounds it, lives in the crate `site`; no tool knows how requests reach it.

#![forbid(unsafe_code)]
// They panic when nobody reads the output, and visitors never see it: log through `tracing` instead.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod checksum;
mod diagnostics;
mod inspect;
mod passwords;
mod table;

pub use table::TABLE;
