//! Annotations as they are written: `[PART[,PART]:]KEY=VALUE`, where a part is `index`,
//! `manifest-descriptor[linux/arm64]` and their like (buildx's `--annotation`), or as keys of an
//! output: `annotation-manifest[linux/arm64].KEY` (BuildKit, exporter/containerimage/exptypes).

use std::str::FromStr;

use kiln_core::oci::Platform;
use kiln_engine::{Annotation, AnnotationPlace};

const PARTS: [(&str, AnnotationPlace); 4] = [
    ("manifest", AnnotationPlace::Manifest),
    ("manifest-descriptor", AnnotationPlace::ManifestDescriptor),
    ("index", AnnotationPlace::Index),
    ("index-descriptor", AnnotationPlace::IndexDescriptor),
];

/// `--annotation` of a build: one for each part that is named, or for manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnnotationOption(pub(super) Vec<Annotation>);

impl FromStr for AnnotationOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse(text, AnnotationPlace::Manifest).map(Self)
    }
}

/// What an annotation says; without a part it is one of `usual`.
pub(super) fn parse(text: &str, usual: AnnotationPlace) -> Result<Vec<Annotation>, String> {
    let (name, value) = text.split_once('=').ok_or("it is written KEY=VALUE")?;
    let (parts, key) = match name.split_once(':') {
        Some((parts, key)) => (parts.split(',').map(part).collect::<Result<_, _>>()?, key),
        None => (vec![(usual, None)], name),
    };
    if key.is_empty() {
        return Err("the key is missing".to_owned());
    }
    let annotation = |(place, platform)| Annotation {
        place,
        platform,
        key: key.to_owned(),
        value: value.to_owned(),
    };
    Ok(parts.into_iter().map(annotation).collect())
}

/// What a key of an output says with its value; `None` if it is no annotation.
pub(super) fn of_output(key: &str, value: &str) -> Option<Result<Annotation, String>> {
    let rest = key.strip_prefix("annotation")?;
    // A platform has no dot that would come before the key's.
    let (written, key) = rest.split_once('.')?;
    let found = match written.strip_prefix('-') {
        Some(text) => part(text),
        None if written.is_empty() || written.starts_with('[') => {
            part(&format!("manifest{written}"))
        }
        None => return None,
    };
    let (key, value) = (key.to_owned(), value.to_owned());
    Some(found.map(|(place, platform)| Annotation { place, platform, key, value }))
}

/// A part, and the platform behind it.
fn part(text: &str) -> Result<(AnnotationPlace, Option<Platform>), String> {
    let (name, platform) = match text.split_once('[') {
        Some((name, platform)) => {
            let platform = platform.strip_suffix(']').ok_or("`]` is missing")?;
            let platform: Platform = platform.parse().map_err(|error| format!("{error}"))?;
            (name, Some(platform))
        }
        None => (text, None),
    };
    let known = PARTS.iter().find(|(known, _)| *known == name);
    known.map(|(_, place)| (*place, platform)).ok_or_else(|| {
        let known = PARTS.map(|(known, _)| known).join(", ");
        format!("`{name}` is nothing that has annotations; these have: {known}")
    })
}

/// An annotation as it is written in [`parse`]'s form.
#[cfg(test)]
pub(super) fn shown(annotation: &Annotation) -> String {
    let Annotation { place, platform, key, value } = annotation;
    let (name, _) = PARTS.iter().find(|(_, known)| known == place).expect("all are there");
    let platform = platform.as_ref().map(|platform| format!("[{platform}]")).unwrap_or_default();
    format!("{name}{platform}:{key}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(result: Result<Vec<Annotation>, String>) -> String {
        match result {
            Ok(annotations) => annotations.iter().map(shown).collect::<Vec<_>>().join(" "),
            Err(error) => error,
        }
    }

    #[test]
    fn annotations_are_read() {
        let read = |text: &str| read(text.parse::<AnnotationOption>().map(|option| option.0));
        assert_eq!(read("a.b=c=d"), "manifest:a.b=c=d");
        assert_eq!(read("index:a=b:c"), "index:a=b:c");
        assert_eq!(read("manifest-descriptor:a="), "manifest-descriptor:a=");
        assert_eq!(read("manifest[linux/arm64]:a=b"), "manifest[linux/arm64]:a=b");
        assert_eq!(read("index,manifest:a=b"), "index:a=b manifest:a=b");
        for (wrong, reason) in [
            ("a", "KEY=VALUE"),
            ("index:=b", "the key is missing"),
            ("manifest-descriptor[linux/arm64:a=b", "`]` is missing"),
            ("manifest[windows/none/x/y]:a=b", "windows/none"),
            ("other:a=b", "`other` is nothing that has annotations"),
        ] {
            assert!(read(wrong).contains(reason), "{wrong}: {}", read(wrong));
        }
    }

    #[test]
    fn keys_of_an_output_are_read() {
        let read = |key: &str| match of_output(key, "v") {
            Some(result) => read(result.map(|annotation| vec![annotation])),
            None => "none".to_owned(),
        };
        assert_eq!(read("annotation.org.a.b"), "manifest:org.a.b=v");
        assert_eq!(read("annotation[linux/amd64].a"), "manifest[linux/amd64]:a=v");
        assert_eq!(read("annotation-index.a"), "index:a=v");
        let descriptor = "annotation-manifest-descriptor[linux/arm/v7].a.b";
        assert_eq!(read(descriptor), "manifest-descriptor[linux/arm/v7]:a.b=v");
        assert!(read("annotation-other.a").contains("`other` is nothing"));
        for none in ["annotations.a", "annotation", "name"] {
            assert_eq!(read(none), "none");
        }
    }
}
