//! Solves a plan: runs what the cache cannot answer, and exports the images.

mod request;
mod result;

pub use request::*;
pub use result::*;
