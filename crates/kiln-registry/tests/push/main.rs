//! Pushing to the testkit's registry: what is sent, what is not, and what becomes of faults.

#![expect(clippy::unwrap_used, reason = "tests")]

mod blobs;
mod check_login;
mod faults;
mod logins;
mod manifests;
mod real;
mod referrers;
mod support;
