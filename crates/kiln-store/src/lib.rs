//! Everything of kiln that lives on disk: blobs, layers, cache index, context index.

mod boot;
pub mod cache_index;
pub mod cache_mounts;
pub mod content;
mod context_entry;
pub mod context_index;
mod context_read;
mod database;
pub mod error;
pub mod exports;
pub mod fsck;
pub mod gc;
pub mod history;
pub mod images;
pub mod layer;
pub mod layer_error;
pub mod layers;
pub mod lock;
mod packed;
mod process_dir;
pub mod remote_blobs;
pub mod selections;
mod settle;
pub mod store;
pub mod trash;
pub mod walk;

pub use cache_index::{CacheRecord, StepResult};
pub use cache_mounts::{CacheMount, MountAttributes, MountContent, Seeding, Sharing};
pub use content::{BlobWriter, UnhashedBlobWriter};
pub use context_entry::{ContextEntry, EntryKind};
pub use context_index::ContextIndex;
pub use error::Error;
pub use layers::{Layer, LayerId, WorkingLayer};
pub use lock::Guard;
pub use store::{ScratchDir, Store};
pub use walk::{Filter, walk};
