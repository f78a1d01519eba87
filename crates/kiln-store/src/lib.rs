//! Everything of kiln that lives on disk: blobs, layers, cache index, context index.
