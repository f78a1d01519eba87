//! Runs one command in namespaces over a chain of layers.
