//! The rules: a table of files for each, with what it finds; and its pages.
#![expect(clippy::unwrap_used, reason = "tests")]

mod buildkit_rules;
mod cache_rules;
mod fixes;
mod options;
mod outlines;
mod pages;
mod support;
mod total;
