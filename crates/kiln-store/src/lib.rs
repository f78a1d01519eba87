//! Everything of kiln that lives on disk: blobs, layers, cache index, context index.

pub mod layer;
pub mod layer_error;
