//! The tools: a table and one folder each.
//!
//! `table.rs` lists them; a folder holds `logic.rs` (values in, values out), `mod.rs` (thin handlers),
//! `page.html` and `tests.rs`. `urlencoded.rs` reads queries for them. `docs/adding-a-tool.md` shows how to add one.
//! What a tool *is*, and what surrounds it, is in the crate `site`; no tool knows how requests reach it.

#![forbid(unsafe_code)]
// They panic if nobody reads the output, and visitors never see it: log through `tracing` instead.
#![cfg_attr(not(test), warn(clippy::print_stdout, clippy::print_stderr))]

mod checksum;
mod diagnostics;
mod inspect;
mod passwords;
mod table;
mod urlencoded;

pub use table::TABLE;
