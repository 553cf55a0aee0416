//! What a run's port I/O would cost as VM exits, and what hypercalls, batches and strings would save.
//!
//! - [`mod@amount`] has exact decimals; [`model`] has the costs of hypervisors.
//! - [`groups`] has the accesses of a dump, [`price`](mod@price) what they cost under a model, [`callers`] for whom.
//! - [`clusters`] finds accesses in a trace that one exit could serve; [`advice`](mod@advice) names the sites to change
//!   first.
//! - [`report`], [`json`], [`list`](mod@list) and [`page`] print it.

pub mod advice;
pub mod amount;
pub mod callers;
pub mod clusters;
pub mod groups;
pub mod json;
pub mod list;
pub mod model;
pub mod page;
pub mod price;
pub mod report;
