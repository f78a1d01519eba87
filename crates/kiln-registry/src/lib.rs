//! Speaks the OCI distribution protocol: pull, push, credentials.
