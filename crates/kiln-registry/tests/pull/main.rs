//! Pulling, from registries that fail, ask for logins, or are real.

#![expect(clippy::unwrap_used, reason = "tests")]

mod blobs;
mod hosts;
mod logins;
mod manifests;
mod mirrors;
mod proxies;
mod real;
mod support;
