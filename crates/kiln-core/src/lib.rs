//! Text in, plan and image out: everything of kiln that has no effect.

pub mod bake;
pub mod benchmark;
pub mod cache_key;
pub mod cause;
pub mod csv;
pub mod diagnostic;
pub mod digest;
pub mod dockerfile;
pub mod event;
pub mod file_list;
pub mod git_source;
pub mod glob;
pub mod image;
pub mod lint;
pub mod lock_file;
pub mod mode;
pub mod oci;
pub mod pattern;
pub mod performance;
pub mod plan;
pub mod report;
pub mod source;
pub mod trace;
