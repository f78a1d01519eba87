//! The lines of an image's history, in BuildKit's wording.

use crate::oci::HistoryEntry;

/// What BuildKit writes beside each entry; tools look for it.
const COMMENT: &str = "buildkit.dockerfile.v0";

/// Whether an instruction made a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layered {
    /// It did; BuildKit marks commands and copies with `# buildkit`.
    Marked,
    /// It did, without the mark (WORKDIR).
    Plain,
    /// It changed the config only.
    No,
}

/// A history entry; `created` is known only with an epoch, else the layer's own time is filled in
/// when the image is assembled.
pub(super) fn entry(text: &str, layered: Layered, created: Option<String>) -> HistoryEntry {
    let mark = if layered == Layered::Marked { " # buildkit" } else { "" };
    HistoryEntry {
        created,
        created_by: Some(format!("{text}{mark}")),
        author: None,
        comment: Some(COMMENT.to_owned()),
        empty_layer: layered == Layered::No,
    }
}

/// `["a" "b"]`: how Go prints a list of quoted strings.
pub(super) fn quoted_list(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
