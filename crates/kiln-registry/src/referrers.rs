//! What points to a manifest: signatures, SBOMs and other artifacts (distribution-spec 1.1, "Listing
//! Referrers" and "Pushing Manifests with Subject").
//!
//! A registry that knows referrers lists them, page by page. One that does not, answers 404; there
//! the list is an index under the tag `sha256-HEX` of the subject's digest, and who pushes a
//! manifest with a subject adds it to that index. Such a registry is known by an answer to a push
//! that lacks `OCI-Subject`. Two who add to one index at the same moment may lose one entry: the
//! protocol has nothing against that.
//!
//! Mirrors are not asked: what they have cached of a list that grows is not the list.

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Referrer, media_type, to_json};

use crate::client::{ACCEPT, Client, get, read_manifest};
use crate::error::Error;
use crate::exchange::{Access, Call};
use crate::http::{Response, Url, form};
use crate::repository::Repository;
use crate::resolved::parse;

/// A list is read this many pages far.
const PAGES: usize = 1000;

/// A page is not longer than this.
const PAGE_BYTES: u64 = 16 << 20;

/// A list of referrers.
#[derive(Clone, Debug)]
enum Listed {
    /// By the registry.
    Known(Vec<Descriptor>),
    /// The registry does not list them.
    Unknown,
}

impl Client {
    /// What points to a manifest of a repository: of one type of artifacts, or of all.
    ///
    /// # Errors
    /// What keeps the registry from being reached, and lists that are none.
    pub fn referrers(
        &self,
        repository: &Repository,
        subject: BlobDigest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        self.list_referrers((repository, Access::Pull), subject, artifact_type)
    }

    /// All that points to a manifest of a repository that is pushed to: asked of the host that
    /// takes pushes, with the right to push.
    ///
    /// # Errors
    /// As [`referrers`](Self::referrers).
    pub fn pushed_referrers(
        &self,
        repository: &Repository,
        subject: BlobDigest,
    ) -> Result<Vec<Descriptor>, Error> {
        self.list_referrers((repository, Access::Push), subject, None)
    }

    fn list_referrers(
        &self,
        (repository, access): (&Repository, Access<'_>),
        subject: BlobDigest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>, Error> {
        let mut found = match self.ask_for_list((repository, access), subject, artifact_type)? {
            Listed::Known(found) => found,
            Listed::Unknown => {
                let index = self.fallback_index((repository, access), subject)?;
                index.map(|index| index.manifests).unwrap_or_default()
            }
        };
        // Registries need not filter.
        if let Some(wanted) = artifact_type {
            found.retain(|descriptor| descriptor.artifact_type() == Some(wanted));
        }
        let mut seen = std::collections::BTreeSet::new();
        found.retain(|descriptor| seen.insert(descriptor.digest));
        Ok(found)
    }

    /// The registry's own list.
    fn ask_for_list(
        &self,
        (repository, access): (&Repository, Access<'_>),
        subject: BlobDigest,
        artifact_type: Option<&str>,
    ) -> Result<Listed, Error> {
        let name = format!("referrers of {repository}@{subject}");
        let mut path = format!("/referrers/{subject}");
        if let Some(wanted) = artifact_type {
            path = format!("{path}?{}", form(&[("artifactType", wanted)]));
        }
        let mut call =
            Call { access, accept: media_type::OCI_INDEX, ..get(repository, path, &name) };
        let mut found = Vec::new();
        for _ in 0..PAGES {
            let response = match self.exchange().retrying(|| self.exchange().attempt(&call)) {
                Err(
                    Error::NotFound { .. } | Error::Status { status: 400 | 404..=406 | 501, .. },
                ) if call.at.is_none() => return Ok(Listed::Unknown),
                answer => answer?,
            };
            // Some registries answer what they do not know with a page for people.
            let content_type = response.header("content-type").unwrap_or_default();
            if content_type.split(';').next().map(str::trim) != Some(media_type::OCI_INDEX) {
                return Ok(Listed::Unknown);
            }
            let (place, next) = (response.url.to_string(), next_page(&response)?);
            let bytes = response.read(PAGE_BYTES).map_err(|source| Error::Interrupted {
                url: place.clone(),
                received_bytes: 0,
                expected_bytes: 0,
                source,
            })?;
            let index: Index = parse(&bytes, &place)?;
            found.extend(index.manifests);
            match next {
                Some(next) => call.at = Some(next),
                None => return Ok(Listed::Known(found)),
            }
        }
        Err(Error::InvalidDocument { url: name, reason: "the list has no end".to_owned() })
    }

    /// The list under the subject's tag, if there is one.
    fn fallback_index(
        &self,
        (repository, access): (&Repository, Access<'_>),
        subject: BlobDigest,
    ) -> Result<Option<Index>, Error> {
        let tag = Referrer::fallback_tag(subject);
        let name = format!("{repository}:{tag}");
        let call =
            Call { access, accept: ACCEPT, ..get(repository, format!("/manifests/{tag}"), &name) };
        let found = self.exchange().retrying(|| {
            let response = self.exchange().attempt(&call)?;
            read_manifest(response, None)
        });
        match found {
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
            Ok(document) => document.index().map(Some),
        }
    }

    /// Lists a manifest that was pushed, if it has a subject: the registry's answer did not name that.
    pub(crate) fn list_pushed(
        &self,
        repository: &Repository,
        (media_type, bytes): (&str, &[u8]),
    ) -> Result<(), Error> {
        let Some(referrer) = Referrer::of(media_type, bytes) else {
            return Ok(());
        };
        let subject = referrer.subject;
        let index = self.fallback_index((repository, Access::Push), subject)?;
        let mut index = index.unwrap_or_else(|| Index::new(Vec::new()));
        if index.manifests.iter().any(|known| known.digest == referrer.descriptor.digest) {
            return Ok(());
        }
        index.media_type = Some(media_type::OCI_INDEX.to_owned());
        index.manifests.push(referrer.descriptor);
        let tag = Referrer::fallback_tag(subject);
        self.push_manifest(repository, &tag, (media_type::OCI_INDEX, &to_json(&index)))?;
        Ok(())
    }
}

/// Where a list goes on (RFC 8288: `Link: <URL>; rel="next"`).
fn next_page(response: &Response) -> Result<Option<Url>, Error> {
    let links = response.headers("link").flat_map(|header| header.split(','));
    for link in links {
        let Some((target, parameters)) =
            link.trim().strip_prefix('<').and_then(|l| l.split_once('>'))
        else {
            continue;
        };
        let is_next = parameters.split(';').any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                name.trim() == "rel" && value.trim().trim_matches('"') == "next"
            })
        });
        if is_next {
            return response.url.join(target).map(Some);
        }
    }
    Ok(None)
}
