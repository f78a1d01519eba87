//! The Dockerfile language: text in, [`Dockerfile`] and diagnostics out.

mod instruction;

pub use instruction::*;
