//! The planner and its laws: Dockerfiles in, plans as text out.
//!
//! Expectations about configs, history and variables are BuildKit's; where a comment says so they
//! were seen by running it.
#![expect(clippy::unwrap_used, reason = "tests")]

mod commands;
mod config;
mod contexts;
mod copies;
mod errors;
mod key_laws;
mod plan_laws;
mod stages;
mod support;
mod triggers;
mod unneeded;
mod variables;
