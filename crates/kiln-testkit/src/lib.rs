//! Fixtures of kiln's own tests: trees as text, an in-process registry.
