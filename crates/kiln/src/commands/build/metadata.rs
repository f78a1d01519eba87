//! `--metadata-file`: buildx's keys, and kiln's own under `kiln`.

use kiln_engine::{BuildResult, ImageResult, TargetResult};
use serde_json::{Map, Value, json};

/// The document: of one target itself, of several by their names.
pub(crate) fn metadata(result: &BuildResult) -> Value {
    match result.targets.as_slice() {
        [target] => of_target(target),
        _ => by_name(result),
    }
}

/// The document of a bake file's targets: by name, even a single one.
pub(crate) fn by_name(result: &BuildResult) -> Value {
    let pairs = result.targets.iter().map(|target| (target.name.clone(), of_target(target)));
    Value::Object(pairs.collect())
}

fn of_target(target: &TargetResult) -> Value {
    let mut document = Map::new();
    if let Some(descriptor) = &target.descriptor {
        document.insert("containerimage.digest".to_owned(), json!(descriptor.digest));
        document.insert("containerimage.descriptor".to_owned(), json!(descriptor));
    }
    if let [image] = target.images.as_slice()
        && let Some(config) = &image.config
    {
        document.insert("containerimage.config.digest".to_owned(), json!(config));
    }
    if !target.names.is_empty() {
        document.insert("image.name".to_owned(), target.names.join(",").into());
    }
    let own = match target.images.as_slice() {
        [image] => of_image(image),
        images => {
            let pairs = images.iter().map(|image| (image.platform.to_string(), of_image(image)));
            Value::Object(pairs.collect())
        }
    };
    document.insert("kiln".to_owned(), own);
    Value::Object(document)
}

fn of_image(image: &ImageResult) -> Value {
    json!({
        "duration_ms": (image.duration.as_secs_f64() * 1e6).round() / 1e3,
        "steps": image.steps,
        "cached": image.cached,
        "layers": image.layers,
        "layers_reused": image.layers_reused,
        "image_size_bytes": image.size_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::build::samples;

    #[test]
    fn one_target_is_the_document() {
        let result = samples::result(&["app"]);
        let text = serde_json::to_string_pretty(&metadata(&result)).expect("serialises");
        insta::assert_snapshot!(text, @r#"
        {
          "containerimage.digest": "sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f",
          "containerimage.descriptor": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": "sha256:05b3abf2579a5eb66403cd78be557fd860633a1fe2103c7642030defe32c657f",
            "size": 481
          },
          "containerimage.config.digest": "sha256:b79606fb3afea5bd1609ed40b622142f1c98125abcfe89a76a661b0e8e343910",
          "image.name": "docker.io/library/ares:app",
          "kiln": {
            "duration_ms": 314.159,
            "steps": 20,
            "cached": 18,
            "layers": 5,
            "layers_reused": 4,
            "image_size_bytes": 123456789
          }
        }
        "#);
    }

    #[test]
    fn several_targets_stand_by_name() {
        let result = samples::result(&["app", "test"]);
        let document = metadata(&result);
        assert_eq!(document["app"], metadata(&samples::result(&["app"])));
        assert_eq!(document["test"]["kiln"]["steps"], 20);
        assert!(document.get("kiln").is_none());
    }
}
