//! What builds took and made, file by file, as reports show it.

use serde::Serialize;

/// What a build took of its context, and the layers of its images.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The files of the context that its steps took; `None` if they took none, or nothing is known of it any
    /// more.
    pub context: Option<ContextContents>,
    /// The layers of all its images, each once, lowest first.
    pub layers: Vec<LayerContents>,
}

/// Files of a context that steps took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ContextContents {
    /// How many.
    pub files: usize,
    /// Bytes in them.
    pub size_bytes: u64,
    /// The largest ones, the largest first.
    pub largest: Vec<SizedFile>,
}

/// A layer of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LayerContents {
    /// The instruction that made it.
    pub instruction: String,
    /// The images that have it.
    pub images: Vec<String>,
    /// Its regular files; `None` if the store has not looked into it.
    pub files: Option<usize>,
    /// Bytes in them.
    pub size_bytes: Option<u64>,
    /// The largest ones, the largest first.
    pub largest: Vec<SizedFile>,
}

/// A file and its size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SizedFile {
    /// Where it is, without a slash in front.
    pub path: String,
    /// Its bytes.
    pub size_bytes: u64,
}
