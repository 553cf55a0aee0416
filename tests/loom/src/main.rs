//! Tries every interleaving of the plugin's code without locks, and every value that a relaxed load may return.
//!
//! The files are the plugin's own. `crate::sync` is loom's here. Each model is a small program of two or three threads.

#![allow(dead_code, reason = "the models do not use all that the plugin's files define")]

mod string_attempt;
mod sync;

#[path = "../../../plugin/src/stats/counter_array.rs"]
mod counter_array;
#[path = "../../../plugin/src/hypercalls/epoch.rs"]
mod epoch;
#[path = "../../../plugin/src/stats/first_port.rs"]
mod first_port;
#[path = "../../../plugin/src/interception/interrupted.rs"]
mod interrupted;
#[path = "../../../plugin/src/stats/keyed_counters.rs"]
mod keyed_counters;
#[path = "../../../plugin/src/bus/line_changes.rs"]
mod line_changes;
mod models;
#[path = "../../../plugin/src/trace/progress.rs"]
mod progress;

fn main() {
    for (name, model) in models::ALL {
        let builder = loom::model::Builder::new();
        builder.check(model);
        println!("{name}: no interleaving breaks it");
    }
}
