//! `kiln copy`

use std::path::PathBuf;
use std::str::FromStr;

use kiln_core::oci::Reference;

use super::transfer::watched;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::{ArchiveForm, ImagePlace};

/// Copy an image between registries, OCI layouts and archives
///
/// All platforms are copied and no byte is changed, so that the image keeps its digest, which is
/// printed. What the target has is not sent again; between repositories of one registry it is
/// mounted.
///
/// A place is NAME or docker://NAME (a registry), oci-layout://DIR[:TAG] or oci:DIR[:TAG] (a
/// directory), oci-archive://FILE[:TAG] or docker-archive://FILE[:NAME:TAG] (a tar file, as `docker
/// save` and `docker load` have it). What `docker save` wrote has no manifest: it gets one.
#[expect(clippy::doc_markdown, reason = "the docs are the help")]
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kiln copy debian:13-slim registry.internal/debian:13-slim
  kiln copy ghcr.io/me/app:1 oci-archive://app.tar
  kiln copy docker-archive://saved.tar ghcr.io/me/app:1
  kiln copy --referrers ghcr.io/me/app:1 registry.internal/app:1")]
pub(crate) struct Copy {
    /// Where the image is
    #[arg(value_name = "SOURCE")]
    from: PlaceOption,
    /// Where it shall be
    #[arg(value_name = "TARGET")]
    to: PlaceOption,
    /// Copy what points to the image, too: signatures, SBOMs and other artifacts, of all its platforms
    #[arg(long, alias = "recursive")]
    referrers: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Copy {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        if self.from == self.to {
            return Err(Failure::usage("source and target are the same"));
        }
        if let ImagePlace::Registry(Reference { digest: Some(_), .. }) = self.to.0 {
            return Err(Failure::usage(
                "the target cannot be named by a digest: it follows from \
                                       what is copied",
            ));
        }
        let places = (&self.from.0, &self.to.0);
        let copied = watched(config, self.quiet, |session, watching| {
            if self.referrers {
                let (digest, count) = session.copy_with_referrers(places, watching)?;
                return Ok((digest, Some(count)));
            }
            Ok((session.copy_image(places, watching)?, None))
        });
        let (digest, count) = copied?;
        render::print_lines(&[digest]);
        if let Some(count) = count.filter(|_| !self.quiet) {
            render::note_lines(&[match count {
                0 => "no artifact points to the image".to_owned(),
                1 => "one artifact that points to the image is there, too".to_owned(),
                more => format!("{more} artifacts that point to the image are there, too"),
            }]);
        }
        Ok(())
    }
}

/// A place as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlaceOption(pub(super) ImagePlace);

impl FromStr for PlaceOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let after = |scheme: &str| {
            let rest = text.strip_prefix(scheme)?.strip_prefix(':')?;
            Some(rest.strip_prefix("//").unwrap_or(rest))
        };
        // As buildx writes it, and skopeo.
        if let Some(rest) = after("oci-layout").or_else(|| after("oci")) {
            let (path, name) = split_name(rest)?;
            return Ok(Self(ImagePlace::Layout { path, name }));
        }
        if let Some(rest) = after("oci-archive") {
            let (path, name) = split_name(rest)?;
            return Ok(Self(ImagePlace::Archive { path, name, form: ArchiveForm::Oci }));
        }
        if let Some(rest) = after("docker-archive") {
            // What comes after the path is a whole name.
            let (path, name) =
                rest.split_once(':').map_or((rest, None), |(path, name)| (path, Some(name)));
            if path.is_empty() || name == Some("") {
                return Err("a path is missing, or the name after it".to_owned());
            }
            let (path, name) = (PathBuf::from(path), name.map(str::to_owned));
            return Ok(Self(ImagePlace::Archive { path, name, form: ArchiveForm::Docker }));
        }
        let name = text.strip_prefix("docker://").unwrap_or(text);
        let hint = match name.split_once("://") {
            Some((scheme, _)) => format!(
                "`{scheme}://` is no place that kiln knows: docker://, oci-layout://, \
                 oci-archive:// and docker-archive:// are"
            ),
            None => {
                "a directory is written oci-layout://DIR, a tar file oci-archive://FILE".to_owned()
            }
        };
        let is_tar = std::path::Path::new(name).extension().is_some_and(|end| end == "tar");
        let is_path = name.starts_with(['.', '/']) || is_tar;
        match name.parse::<Reference>() {
            Ok(reference) if !is_path => Ok(Self(ImagePlace::Registry(reference))),
            Ok(_) => Err(hint),
            Err(_) if is_path || name.contains("://") => Err(hint),
            Err(error) => Err(error.reason.to_owned()),
        }
    }
}

/// `PATH[:NAME]`; a name has no slash.
fn split_name(text: &str) -> Result<(PathBuf, Option<String>), String> {
    let (path, name) = match text.rsplit_once(':') {
        Some((path, name)) if !name.contains('/') && !path.ends_with("@sha256") => {
            (path, Some(name.to_owned()))
        }
        _ => match text.split_once("@sha256:") {
            Some((path, hex)) => (path, Some(format!("sha256:{hex}"))),
            None => (text, None),
        },
    };
    if path.is_empty() || name.as_deref() == Some("") {
        return Err("a path is missing, or the name after it".to_owned());
    }
    Ok((PathBuf::from(path), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match text.parse::<PlaceOption>() {
            Ok(PlaceOption(ImagePlace::Registry(reference))) => format!("registry {reference}"),
            Ok(PlaceOption(place)) => place.to_string(),
            Err(error) => error,
        }
    }

    #[test]
    fn places_are_read() {
        assert_eq!(shown("app"), "registry docker.io/library/app:latest");
        assert_eq!(shown("docker://h:5000/a:1"), "registry h:5000/a:1");
        assert_eq!(shown("oci-layout://a/b"), "oci-layout://a/b");
        assert_eq!(shown("oci-layout:a/b:v1"), "oci-layout://a/b:v1");
        assert_eq!(shown("oci:b:v1"), "oci-layout://b:v1");
        assert_eq!(shown("oci-layout:///a:b/c"), "oci-layout:///a:b/c");
        let digest = format!("oci-layout://a@sha256:{}", "0".repeat(64));
        assert_eq!(shown(&digest), digest.replace('@', ":"));
        assert_eq!(shown("oci-archive://x.tar:v1"), "oci-archive://x.tar:v1");
        for (wrong, reason) in [
            ("x.tar", "oci-archive://FILE"),
            ("./x", "oci-layout://DIR"),
            ("dir://x", "`dir://` is no place"),
            ("oci-layout://", "a path is missing"),
            ("oci-layout://x:", "the name after it"),
        ] {
            assert!(shown(wrong).contains(reason), "{wrong}: {}", shown(wrong));
        }
    }
}
