//! Solves a plan: runs what the cache cannot answer, and exports the images.
