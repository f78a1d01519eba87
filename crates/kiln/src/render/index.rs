//! What a name of a registry or a layout stands for.

use kiln_core::oci::{Descriptor, Index, Manifest, Referrer, media_type};
use serde_json::{Value, json};

use super::format::size;
use super::table::{Align, table};
use crate::session::FoundImage;

/// The annotations of an attestation (BuildKit): what it is, and of which manifest.
const KIND: &str = "vnd.docker.reference.type";
const ATTESTED: &str = "vnd.docker.reference.digest";

/// The lines for people: what it is, then a line for each image or layer.
pub(crate) fn lines(name: &str, found: &FoundImage) -> Result<Vec<String>, serde_json::Error> {
    let descriptor = &found.descriptor;
    let mut lines = vec![
        format!("name        {name}"),
        format!("media type  {}", descriptor.media_type),
        format!("digest      {}", descriptor.digest),
    ];
    let is_index = media_type::is_index(&descriptor.media_type);
    let (annotations, table) = if is_index {
        let index: Index = serde_json::from_slice(&found.bytes)?;
        (index.annotations.clone(), images(&index))
    } else {
        let manifest: Manifest = serde_json::from_slice(&found.bytes)?;
        lines.push(format!("config      {}", manifest.config.digest));
        (manifest.annotations.clone(), layers(&manifest))
    };
    lines.extend(annotations.iter().map(|(key, value)| format!("annotation  {key}={value}")));
    lines.push(String::new());
    lines.extend(table);
    Ok(lines)
}

fn images(index: &Index) -> Vec<String> {
    let header = [("PLATFORM", Align::Left), ("DIGEST", Align::Left), ("", Align::Left)];
    let rows: Vec<Vec<String>> = index
        .manifests
        .iter()
        .map(|image| {
            let platform = image.platform.as_ref().map(ToString::to_string);
            vec![platform.unwrap_or_default(), image.digest.to_string(), remarks(index, image)]
        })
        .collect();
    table(&header, &rows)
}

/// What is to be said of an image besides: what an attestation is about, annotations.
fn remarks(index: &Index, image: &Descriptor) -> String {
    let mut remarks = Vec::new();
    if media_type::is_index(&image.media_type) {
        remarks.push("an index".to_owned());
    }
    if let Some(kind) = image.annotations.get(KIND) {
        let digest = image.annotations.get(ATTESTED);
        let of = index
            .manifests
            .iter()
            .find(|other| Some(&other.digest.to_string()) == digest)
            .and_then(|other| other.platform.as_ref());
        let of = of.map_or("something that is not here".to_owned(), ToString::to_string);
        remarks.push(format!("{} of {of}", kind.trim_end_matches("-manifest")));
    }
    let annotations = image.annotations.iter().filter(|(key, _)| *key != KIND && *key != ATTESTED);
    remarks.extend(annotations.map(|(key, value)| format!("{key}={value}")));
    remarks.join(", ")
}

/// What points to an image: a line for each artifact, with what it points to. `kind` is the type of
/// artifacts that was asked for.
pub(crate) fn referrers(
    (name, found): (&str, &FoundImage),
    (referrers, kind): (&[Referrer], Option<&str>),
) -> Result<Vec<String>, serde_json::Error> {
    let descriptor = &found.descriptor;
    let mut lines = vec![
        format!("name        {name}"),
        format!("media type  {}", descriptor.media_type),
        format!("digest      {}", descriptor.digest),
        String::new(),
    ];
    let is_index = media_type::is_index(&descriptor.media_type);
    let images = if is_index {
        serde_json::from_slice::<Index>(&found.bytes)?.manifests
    } else {
        Vec::new()
    };
    let subject = |referrer: &Referrer| {
        let digest = referrer.subject;
        if digest == descriptor.digest {
            return if is_index { "the index" } else { "the image" }.to_owned();
        }
        let image = images.iter().find(|image| image.digest == digest);
        let platform = image.and_then(|image| image.platform.as_ref()).map(ToString::to_string);
        platform.unwrap_or_else(|| format!("sha256:{}", &digest.hex()[..12]))
    };
    let rows: Vec<Vec<String>> = referrers
        .iter()
        .map(|referrer| {
            let artifact = &referrer.descriptor;
            let kind = artifact.artifact_type().unwrap_or(&artifact.media_type);
            let annotations = artifact.annotations.iter();
            let remarks: Vec<String> =
                annotations.map(|(key, value)| format!("{key}={value}")).collect();
            let digest = artifact.digest.to_string();
            vec![kind.to_owned(), subject(referrer), digest, remarks.join(", ")]
        })
        .collect();
    if rows.is_empty() {
        lines.push(match kind {
            Some(kind) => format!("no artifact of type {kind} points to it"),
            None => "no artifact points to it".to_owned(),
        });
        return Ok(lines);
    }
    let left = |title| (title, Align::Left);
    lines.extend(table(&[left("ARTIFACT TYPE"), left("OF"), left("DIGEST"), left("")], &rows));
    Ok(lines)
}

/// The same for programs: descriptors, each with the digest of its `subject`.
pub(crate) fn referrers_json(
    (name, found): (&str, &FoundImage),
    referrers: &[Referrer],
) -> Result<Vec<String>, serde_json::Error> {
    let described = |referrer: &Referrer| {
        let mut value = serde_json::to_value(&referrer.descriptor)?;
        value["subject"] = serde_json::to_value(referrer.subject)?;
        Ok(value)
    };
    let referrers: Vec<Value> = referrers.iter().map(described).collect::<Result<_, _>>()?;
    let all = json!({
        "name": name,
        "digest": found.descriptor.digest,
        "size": found.bytes.len(),
        "mediaType": found.descriptor.media_type,
        "referrers": referrers,
    });
    Ok(vec![format!("{all:#}")])
}

fn layers(manifest: &Manifest) -> Vec<String> {
    let header = [("LAYER", Align::Left), ("SIZE", Align::Right), ("MEDIA TYPE", Align::Left)];
    let rows: Vec<Vec<String>> = manifest
        .layers
        .iter()
        .map(|layer| vec![layer.digest.to_string(), size(layer.size), layer.media_type.clone()])
        .collect();
    table(&header, &rows)
}

/// The same for programs: the document, and what names it.
pub(crate) fn json(name: &str, found: &FoundImage) -> Result<Vec<String>, serde_json::Error> {
    let document: Value = serde_json::from_slice(&found.bytes)?;
    let descriptor = &found.descriptor;
    let mut all = json!({
        "name": name,
        "digest": descriptor.digest,
        "size": found.bytes.len(),
        "mediaType": descriptor.media_type,
    });
    if let (Value::Object(all), Value::Object(document)) = (&mut all, document) {
        for (key, value) in document {
            all.entry(key).or_insert(value);
        }
    }
    Ok(vec![format!("{all:#}")])
}
