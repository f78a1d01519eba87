//! Names of build stages.

/// Names that mean something else where a stage's name could stand; a lint, no error.
pub const RESERVED_STAGE_NAMES: [&str; 2] = ["context", "scratch"];

/// Whether a name, whatever its case, begins with a letter and goes on with letters, digits,
/// `-`, `_` and `.`.
pub fn is_valid_stage_name(name: &str) -> bool {
    let name = name.to_lowercase();
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}
