//! The same cases over every engine, and what is special about each.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod cases;
mod content;
mod copy;
mod folder;
mod proxy;
mod s3;
mod send;
mod uploads;

macro_rules! over_every_engine {
    ($($file:ident: $($case:ident)*;)*) => {
        mod in_a_folder {
            $($(#[test] fn $case() { crate::folder::run(crate::$file::$case); })*)*
        }
        mod in_s3 {
            $($(#[test] fn $case() { crate::s3::run(crate::$file::$case); })*)*
        }
    };
}

over_every_engine! {
    cases:
    what_is_put_can_be_read
    parts_can_be_read
    a_put_replaces
    a_deleted_blob_is_gone
    two_sweeps_at_once_are_harmless
    a_handle_with_a_prefix_reaches_no_other_blob
    tags_tell_contents_apart
    lists_are_in_order_and_have_pages
    lists_of_any_keys_are_in_order
    an_expired_blob_is_not_served
    a_blob_may_be_empty
    lengths_around_the_sizes_of_pieces_and_parts
    one_of_several_concurrent_puts_remains_whole
    a_put_that_fails_or_is_cancelled_changes_nothing
    a_blob_replaced_or_deleted_meanwhile_is_read_to_its_end;
    uploads:
    parts_come_in_any_order_and_several_at_a_time
    a_finished_upload_may_be_finished_again
    what_is_not_complete_is_not_there
    a_part_that_fails_or_is_too_long_changes_nothing
    an_upload_belongs_to_one_blob;
}
