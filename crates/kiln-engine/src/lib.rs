//! Solves a plan: runs what the cache cannot answer, and exports the images.
//!
//! [`build()`] tells the story; `solve` does the steps, `op` is what each kind of step does,
//! `outputs` and `export` are what comes out.

mod activity;
mod base_image;
mod build;
mod container;
mod context;
mod engine;
mod error;
mod export;
mod machine;
mod op;
mod outputs;
mod redact;
mod request;
mod result;
mod selection;
mod snapshot;
mod solve;
mod source_tree;
mod ssh;
mod user;
mod wanted;

pub use build::build;
pub use container::{ContainerError, ContainerRequest, Volume, run_container};
pub use engine::Engine;
pub use error::{BuildError, StepFailure};
pub use request::*;
pub use result::*;
