//! Solves a plan: runs what the cache cannot answer, and exports the images.
//!
//! [`build()`] tells the story; `solve` does the steps, `op` is what each kind of step does,
//! `outputs` and `export` are what comes out.

mod activity;
mod bake;
mod base_image;
mod build;
mod cache;
mod container;
mod contents;
mod context;
mod engine;
mod error;
mod export;
mod history;
mod lock_file;
mod machine;
mod missing;
mod network_files;
mod op;
mod outputs;
mod redact;
mod remote_context;
mod request;
mod result;
mod selection;
mod snapshot;
mod solve;
mod source_tree;
mod ssh;
mod transfer;
mod user;
mod wanted;
mod working_tree;

pub use bake::{BakeTarget, bake};
pub use build::{build, fetch_bases};
pub use container::{ContainerError, ContainerRequest, Volume, fetch_files, run_container};
pub use contents::contents;
pub use context::context_files;
pub use engine::Engine;
pub use error::{BuildError, StepFailure, with_causes};
pub use kiln_registry::{DockerEngineError, EngineAddress};
pub use lock_file::lock;
pub use remote_context::{
    ContextAddress, FetchedContext, StandardInput, fetch_context, keep_input,
};
pub use request::*;
pub use result::*;
pub use transfer::{
    ArchiveForm, FoundImage, ImagePlace, IndexBase, IndexEffect, IndexRequest, Watch, copy_image,
    find_image, join_images, pull, push,
};
pub use working_tree::commit;
