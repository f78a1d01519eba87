//! From a Dockerfile to a plan: a set of steps, without any effect.
//!
//! [`plan`] returns [`Planning::Needs`] until the facts hold every image that the targets stand
//! on, then [`Planning::Ready`].

mod op;
mod request;

pub use op::*;
pub use request::*;
