//! Text in, plan and image out: everything of kiln that has no effect.

pub mod diagnostic;
pub mod digest;
pub mod dockerfile;
pub mod oci;
pub mod source;
