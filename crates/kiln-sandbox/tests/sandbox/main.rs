//! Real commands in real namespaces. They need root; on a machine where the tests run as somebody else, they say so and
//! pass, except `rootless`, which is a test binary of its own.
#![expect(clippy::unwrap_used, reason = "tests")]

mod confinement;
mod emulation;
mod files;
#[path = "../fixture/mod.rs"]
mod fixture;
mod life;
mod mount_points;
mod mounts;
mod printed;
