//! `kiln index`: images of several platforms under one name.

use std::str::FromStr;

use clap::{Subcommand, ValueEnum};
use kiln_core::digest::BlobDigest;
use kiln_core::oci::Reference;
use kiln_engine::{Annotation, AnnotationPlace};

use super::annotation;
use super::build::options::TagOption;
use super::copy::PlaceOption;
use super::transfer::watched;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::transfer::Watch;
use crate::session::{ImagePlace, IndexBase, IndexEffect, IndexRequest, Session};

/// Join images of several platforms under one name, and look at such names
#[derive(Debug, clap::Args)]
#[command(
    alias = "imagetools",
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:
  kiln index create -t ghcr.io/me/app:1 ghcr.io/me/app:1-amd64 ghcr.io/me/app:1-arm64
  kiln index inspect ghcr.io/me/app:1"
)]
pub(crate) struct Index {
    #[command(subcommand)]
    command: IndexCommand,
}

#[derive(Debug, Subcommand)]
enum IndexCommand {
    Create(Create),
    Inspect(Inspect),
}

/// Join images into an index, and send it to the registries of its names
///
/// Sources may be indexes: their manifests are taken, attestations included. What the target's
/// repository lacks is copied, or mounted within a registry. No image changes its digest. Prints each
/// name with the digest of the index.
#[expect(clippy::doc_markdown, reason = "the docs are the help")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln index create -t ghcr.io/me/app:1 ghcr.io/me/app:1-amd64 ghcr.io/me/app:1-arm64
  kiln index create -t ghcr.io/me/app:1 sha256:0a… sha256:3f…     (of ghcr.io/me/app)
  kiln index create -t ghcr.io/me/app:1 --append oci-layout://arm64")]
struct Create {
    /// Name of the index; repeatable
    #[arg(short, long = "tag", required = true, value_name = "NAME[:TAG]")]
    tags: Vec<TagOption>,
    /// Images: NAME[:TAG][@DIGEST] of a registry, sha256:… in the first name's repository,
    /// oci-layout://DIR[:TAG] or oci-archive://FILE[:TAG]
    #[arg(required = true, value_name = "SOURCE")]
    sources: Vec<SourceOption>,
    /// Add to what has the first name; an image for the same platform takes the place of that one
    #[arg(long)]
    append: bool,
    /// Annotation: [index:]KEY=VALUE, or manifest-descriptor[OS/ARCH]:KEY=VALUE for the manifests in
    /// the index, of a platform or of all; repeatable
    #[arg(long = "annotation", value_name = "ANNOTATION")]
    annotations: Vec<AnnotationOption>,
    /// Print the index and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

/// Show what a name stands for: the images of an index, or the layers of one
#[expect(clippy::doc_markdown, reason = "the docs are the help")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln index inspect debian:13-slim
  kiln index inspect --raw oci-layout://out > index.json
  kiln index inspect --referrers --artifact-type application/spdx+json ghcr.io/me/app:1")]
struct Inspect {
    /// NAME[:TAG][@DIGEST] of a registry, oci-layout://DIR[:TAG] or oci-archive://FILE[:TAG]
    #[arg(value_name = "IMAGE")]
    image: PlaceOption,
    /// Write the document as it is, byte for byte
    #[arg(long, conflicts_with = "format")]
    raw: bool,
    /// Show what points to the image and to the images of an index: signatures, SBOMs and other
    /// artifacts
    #[arg(long, conflicts_with = "raw")]
    referrers: bool,
    /// Of these only artifacts of this type, such as application/spdx+json
    #[arg(long, value_name = "TYPE", requires = "referrers")]
    artifact_type: Option<String>,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "text")]
    format: InspectFormat,
}

/// `--format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum InspectFormat {
    /// For people
    Text,
    /// JSON: the document, with name, media type, digest and size
    Json,
}

impl Index {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        match &self.command {
            IndexCommand::Create(create) => create.run(config),
            IndexCommand::Inspect(inspect) => inspect.run(config),
        }
    }
}

impl Create {
    fn run(&self, config: &Config) -> Result<(), Failure> {
        let request = self.request();
        let quiet = self.quiet || self.dry_run;
        watched(config, quiet, |session, watching| {
            let index = session.join_images(&request, watching)?;
            if self.dry_run {
                render::print_lines(&[String::from_utf8_lossy(&index.bytes).into_owned()]);
                return Ok(());
            }
            let digest = index.descriptor.digest;
            let line = |name: &Reference| format!("{}@{digest}", name.familiar());
            render::print_lines(&request.names.iter().map(line).collect::<Vec<_>>());
            Ok(())
        })
    }

    fn request(&self) -> IndexRequest {
        let names: Vec<Reference> = self.tags.iter().map(|tag| tag.reference.clone()).collect();
        let sources = self.sources.iter().map(|source| match &source.0 {
            SourceChoice::Place(place) => place.clone(),
            SourceChoice::Digest(digest) => ImagePlace::Registry(Reference {
                tag: None,
                digest: Some(*digest),
                ..names[0].clone()
            }),
        });
        let (mut annotations, mut manifest_annotations) = (Vec::new(), Vec::new());
        for annotation in self.annotations.iter().flat_map(|option| &option.0).cloned() {
            let Annotation { place, platform, key, value } = annotation;
            match place {
                AnnotationPlace::ManifestDescriptor => {
                    manifest_annotations.push((platform, key, value));
                }
                _ => annotations.push((key, value)),
            }
        }
        IndexRequest {
            sources: sources.collect(),
            names,
            annotations,
            manifest_annotations,
            base: if self.append { IndexBase::Named } else { IndexBase::Empty },
            effect: if self.dry_run { IndexEffect::Show } else { IndexEffect::Push },
        }
    }
}

impl Inspect {
    fn run(&self, config: &Config) -> Result<(), Failure> {
        // What goes to standard output alone, needs no progress beside it.
        watched(config, true, |session, watching| {
            if self.referrers {
                return self.show_referrers(session, watching);
            }
            let found = session.find_image(&self.image.0, watching)?;
            if self.raw {
                render::print_document(&found.bytes);
                return Ok(());
            }
            let name = self.image.0.to_string();
            let lines = match self.format {
                InspectFormat::Text => render::index::lines(&name, &found),
                InspectFormat::Json => render::index::json(&name, &found),
            };
            render::print_lines(&lines.map_err(|error| invalid(&name, &error))?);
            Ok(())
        })
    }

    fn show_referrers(&self, session: &Session, watching: Watch<'_>) -> Result<(), Failure> {
        let what = (&self.image.0, self.artifact_type.as_deref());
        let (found, referrers) = session.find_referrers(what, watching)?;
        let name = self.image.0.to_string();
        let lines = match self.format {
            InspectFormat::Text => render::index::referrers((&name, &found), (&referrers, what.1)),
            InspectFormat::Json => render::index::referrers_json((&name, &found), &referrers),
        };
        render::print_lines(&lines.map_err(|error| invalid(&name, &error))?);
        Ok(())
    }
}

fn invalid(name: &str, error: &serde_json::Error) -> Failure {
    Failure::input("no-image", format!("{name} is not valid: {error}"))
}

/// A source as it is written.
#[derive(Clone, Debug)]
struct SourceOption(SourceChoice);

#[derive(Clone, Debug)]
enum SourceChoice {
    Place(ImagePlace),
    Digest(BlobDigest),
}

impl FromStr for SourceOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(digest) = text.parse::<BlobDigest>() {
            return Ok(Self(SourceChoice::Digest(digest)));
        }
        text.parse().map(|place: PlaceOption| Self(SourceChoice::Place(place.0)))
    }
}

/// What an index may be annotated with: itself and its descriptors of manifests.
#[derive(Clone, Debug)]
struct AnnotationOption(Vec<Annotation>);

impl FromStr for AnnotationOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let annotations = annotation::parse(text, AnnotationPlace::Index)?;
        for annotation in &annotations {
            match (annotation.place, &annotation.platform) {
                (AnnotationPlace::Index, None) | (AnnotationPlace::ManifestDescriptor, _) => {}
                (AnnotationPlace::Index, Some(_)) => {
                    return Err("an index is for all platforms".to_owned());
                }
                (AnnotationPlace::Manifest, _) => {
                    return Err("images stay as they are, so that they keep their digests; \
                         `manifest-descriptor:` annotates them in the index"
                        .to_owned());
                }
                (AnnotationPlace::IndexDescriptor, _) => {
                    return Err("a registry keeps no descriptor of an index".to_owned());
                }
            }
        }
        Ok(Self(annotations))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match text.parse::<AnnotationOption>() {
            Ok(AnnotationOption(annotations)) => {
                annotations.iter().map(annotation::shown).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error,
        }
    }

    #[test]
    fn annotations_are_of_the_index() {
        assert_eq!(read("a.b=c=d"), "index:a.b=c=d");
        let several = "index,manifest-descriptor[linux/arm64]:a=b";
        assert_eq!(read(several), "index:a=b manifest-descriptor[linux/arm64]:a=b");
        for (wrong, reason) in [
            ("manifest:a=b", "keep their digests"),
            ("manifest[linux/arm64]:a=b", "keep their digests"),
            ("index[linux/arm64]:a=b", "for all platforms"),
            ("index-descriptor:a=b", "keeps no descriptor"),
        ] {
            assert!(read(wrong).contains(reason), "{wrong}: {}", read(wrong));
        }
    }
}
