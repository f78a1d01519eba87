//! Docker's `manifest.json`: what makes an OCI layout in a tar something that `docker load` reads.
//!
//! Source: moby, image/spec/v1.2 ("Combined Image JSON + Filesystem Changeset Format"), and what
//! BuildKit writes. The oldest form (`repositories`, a directory for each layer) is not written:
//! nothing since Docker 1.10 needs it.

use kiln_core::oci::{Descriptor, Reference};
use serde::Serialize;

/// One image; names as Docker shows them, paths within the archive. Lists without anything are
/// `null`, as Go writes them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

/// The bytes of `manifest.json` of one image under all its names.
pub(crate) fn manifest(
    (config, layers): (&Descriptor, &[Descriptor]),
    names: &[Reference],
) -> Vec<u8> {
    let path = |descriptor: &Descriptor| format!("blobs/sha256/{}", descriptor.digest.hex());
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let item = Item {
        config: path(config),
        repo_tags: list(names.iter().map(Reference::familiar).collect()),
        layers: list(layers.iter().map(path).collect()),
    };
    serde_json::to_vec(&[item]).expect("strings can be written as JSON")
}

#[cfg(test)]
mod tests {
    use kiln_core::digest::BlobDigest;
    use kiln_core::oci::media_type;

    use super::*;

    #[test]
    fn names_are_familiar_and_no_list_is_null() {
        let descriptor =
            |text: &str| Descriptor::new(media_type::OCI_LAYER, BlobDigest::of(text.as_bytes()), 1);
        let text = |layers: &[Descriptor], names: &[&str]| {
            let names: Vec<Reference> =
                names.iter().map(|name| name.parse().expect("a name")).collect();
            String::from_utf8(manifest((&descriptor("config"), layers), &names))
                .expect("JSON is UTF-8")
        };
        let path = |text: &str| format!("\"blobs/sha256/{}\"", descriptor(text).digest.hex());
        let config = path("config");
        let expected = format!(r#"[{{"Config":{config},"RepoTags":null,"Layers":null}}]"#);
        assert_eq!(text(&[], &[]), expected);
        let image = vec![descriptor("a"), descriptor("b"), descriptor("a")];
        let (tags, layers) = (r#""hello:latest","localhost:5000/x:1""#, ["a", "b", "a"].map(path));
        let layers = layers.join(",");
        let expected =
            format!(r#"[{{"Config":{config},"RepoTags":[{tags}],"Layers":[{layers}]}}]"#);
        assert_eq!(text(&image, &["hello", "localhost:5000/x:1"]), expected);
    }
}
