//! The calls of other files, through a large mailbox instead of registers: on every QEMU.
//!
//! The guests are linked with `tests/guests/calls/by-mailbox`, and leave user code out, which has no mailbox.

use pvio_tests::{Host, on_both_qemus, without_modules};

use super::{hostile, memory, random};

on_both_qemus! {
    strings_work_through_page_tables_of_every_kind
    calls_have_the_memory_rights_of_their_callers
    impossible_addresses_are_rejected
    batch_stops_at_a_missing_page_or_a_wrong_record
    compact_batch_stops_at_a_missing_page_or_a_wrong_record
    random_call_does_what_it_asks_and_nothing_else
    wrong_calls_do_no_harm
}

without_modules! {
    ; needs "the guest's memory":
    strings_work_through_page_tables_of_every_kind
    calls_have_the_memory_rights_of_their_callers
    impossible_addresses_are_rejected
    batch_stops_at_a_missing_page_or_a_wrong_record
    compact_batch_stops_at_a_missing_page_or_a_wrong_record
    random_call_does_what_it_asks_and_nothing_else
    wrong_calls_do_no_harm
}

fn strings_work_through_page_tables_of_every_kind(host: &Host) {
    memory::pages(host, "by-mailbox-pages32");
    memory::pages(host, "by-mailbox-pages64");
}

fn calls_have_the_memory_rights_of_their_callers(host: &Host) {
    memory::rights(host, "by-mailbox-rights");
}

fn impossible_addresses_are_rejected(host: &Host) {
    memory::addresses(host, "by-mailbox-addresses");
}

fn batch_stops_at_a_missing_page_or_a_wrong_record(host: &Host) {
    memory::run_with_stream(host, "by-mailbox-batches32");
    memory::run_with_stream(host, "by-mailbox-batches64");
}

fn compact_batch_stops_at_a_missing_page_or_a_wrong_record(host: &Host) {
    memory::run_with_stream(host, "by-mailbox-compact32");
    memory::run_with_stream(host, "by-mailbox-compact64");
}

fn random_call_does_what_it_asks_and_nothing_else(host: &Host) {
    for bits in [32, 64] {
        random::random_calls_of(host, &format!("by-mailbox-random{bits}"), bits, 0);
    }
}

fn wrong_calls_do_no_harm(host: &Host) {
    for bits in [32, 64] {
        hostile::hostile(host, &format!("by-mailbox-hostile{bits}"), 50_000);
    }
}
