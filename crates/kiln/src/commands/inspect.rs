//! `kiln inspect`

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::{Session, StoredImage};

/// Show an image: its names, layers and config, HEALTHCHECK included
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln inspect app:1
  kiln inspect --format json app:1 | jq .config.Healthcheck")]
pub(crate) struct Inspect {
    /// Name, digest, or the start of an image id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "pretty")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// JSON for people
    Pretty,
    /// JSON on one line
    Json,
}

impl Inspect {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let image = Session::open(config)?.image(&self.image)?;
        let document = document(&image);
        render::print_lines(&[match self.format {
            Format::Pretty => format!("{document:#}"),
            Format::Json => document.to_string(),
        }]);
        Ok(())
    }
}

/// The image in one document; `config` is the image config's own, with its keys as they are.
fn document(image: &StoredImage) -> Value {
    let config = &image.config;
    let diff_ids = config.rootfs.diff_ids.as_deref().unwrap_or_default();
    let layers = image.manifest.layers.iter().enumerate();
    let layers = layers.map(|(index, layer)| {
        json!({
            "diff_id": diff_ids.get(index),
            "digest": layer.digest,
            "media_type": layer.media_type,
            "size_bytes": layer.size,
        })
    });
    json!({
        "name": image.name,
        "id": image.id(),
        "digest": image.descriptor.digest,
        "media_type": image.descriptor.media_type,
        "platform": config.platform().to_string(),
        "created": config.created,
        "author": config.author,
        "size_bytes": image.size_bytes,
        "config": config.config,
        "layers": layers.collect::<Vec<_>>(),
        "history": config.history,
    })
}

#[cfg(test)]
pub(crate) mod samples {
    //! An image that tests show.
    use kiln_core::digest::{BlobDigest, DiffId};
    use kiln_core::oci::{Descriptor, ImageConfig, Manifest, media_type};

    use super::StoredImage;

    /// An image of one layer under a full name.
    pub(crate) fn image(name: Option<&str>) -> StoredImage {
        let config: ImageConfig = serde_json::from_value(serde_json::json!({
            "created": "2026-03-01T10:00:00Z",
            "architecture": "amd64",
            "os": "linux",
            "config": {
                "User": "appuser",
                "Env": ["PATH=/usr/bin"],
                "Cmd": ["serve"],
                "Healthcheck": { "Test": ["CMD", "probe"], "Interval": 30_000_000_000_u64 },
            },
            "rootfs": { "type": "layers", "diff_ids": [DiffId::from_bytes([7; 32])] },
            "history": [{ "created_by": "COPY . . # buildkit" }],
        }))
        .expect("a config");
        let config_digest = BlobDigest::of(b"config");
        StoredImage {
            name: name.map(str::to_owned),
            manifest_digest: BlobDigest::of(b"m"),
            descriptor: Descriptor::new(media_type::OCI_MANIFEST, BlobDigest::of(b"m"), 500),
            manifest: Manifest {
                schema_version: 2,
                media_type: None,
                config: Descriptor::new(media_type::OCI_CONFIG, config_digest, 300),
                layers: vec![Descriptor::new(media_type::OCI_LAYER, BlobDigest::of(b"l"), 2048)],
                annotations: std::collections::BTreeMap::new(),
                other: serde_json::Map::new(),
            },
            config,
            size_bytes: 45_600_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_healthcheck_is_shown() {
        let image = samples::image(Some("docker.io/library/ares:production"));
        insta::assert_snapshot!(format!("{:#}", document(&image)), @r#"
        {
          "name": "docker.io/library/ares:production",
          "id": "sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910",
          "digest": "sha256:62c66a7a5dd70c3146618063c344e531e6d4b59e379808443ce962b3abd63c5a",
          "media_type": "application/vnd.oci.image.manifest.v1+json",
          "platform": "linux/amd64",
          "created": "2026-03-01T10:00:00Z",
          "author": null,
          "size_bytes": 45600000,
          "config": {
            "User": "appuser",
            "Env": [
              "PATH=/usr/bin"
            ],
            "Cmd": [
              "serve"
            ],
            "Healthcheck": {
              "Test": [
                "CMD",
                "probe"
              ],
              "Interval": 30000000000
            }
          },
          "layers": [
            {
              "diff_id": "sha256:0707070707070707070707070707070707070707070707070707070707070707",
              "digest": "sha256:acac86c0e609ca906f632b0e2dacccb2b77d22b0621f20ebece1a4835b93f6f0",
              "media_type": "application/vnd.oci.image.layer.v1.tar",
              "size_bytes": 2048
            }
          ],
          "history": [
            {
              "created_by": "COPY . . # buildkit"
            }
          ]
        }
        "#);
    }
}
