//! What points to an image: signatures, SBOMs and other artifacts, found and copied with it.
//!
//! In a registry they are listed by the registry. A layout's `index.json` names them beside the images,
//! without a name (as oras writes it), or in an index of the name `sha256-HEX` (as regctl does); kiln
//! reads both and writes the first. Artifacts may be pointed to themselves: all is followed.
//!
//! What is only named like a signature (`sha256-HEX.sig` of older versions of cosign) is an image like
//! others, and not found here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use kiln_core::digest::BlobDigest;
use kiln_core::oci::{Descriptor, Index, Reference, Referrer, media_type};
use kiln_registry::Repository;

use super::source::{NAMES, Source, index_of};
use super::tree::{Tree, Wanted, parse};
use super::{FoundImage, ImagePlace, Watch, Work, registry, target, transfer};
use crate::base_image::registry_error;
use crate::engine::Engine;
use crate::error::{BuildError, FileContext};

/// So many artifacts are followed: a registry that always finds more must not be read for ever.
const MOST: usize = 100_000;

/// What is copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CopyScope {
    /// The image.
    Image,
    /// And all that points to it, or to one of its manifests.
    Referrers,
}

/// Who knows what points where.
pub(super) enum Lookup {
    Registry(Repository),
    Listed(BTreeMap<BlobDigest, Vec<Descriptor>>),
}

impl Lookup {
    /// Of a place that was opened as a source.
    pub(super) fn open(
        work: &Work<'_>,
        source: &Source,
        place: &ImagePlace,
    ) -> Result<Self, BuildError> {
        let index = match (source, place) {
            (Source::Registry(repository, _), _) => return Ok(Self::Registry(repository.clone())),
            (Source::Archive(archive), _) => index_of(archive.index())?,
            (_, ImagePlace::Layout { path, .. }) => {
                let path = path.join("index.json");
                index_of(&std::fs::read(&path).at("read", &path)?)?
            }
            _ => Index::new(Vec::new()),
        };
        let mut listed: BTreeMap<BlobDigest, Vec<Descriptor>> = BTreeMap::new();
        let mut note = |descriptor: &Descriptor| {
            let name = &descriptor.media_type;
            if !media_type::is_index(name) && !media_type::is_manifest(name) {
                return Ok(());
            }
            if let Some(found) = Referrer::of(name, &source.document(work, descriptor)?) {
                listed.entry(found.subject).or_default().push(found.descriptor);
            }
            Ok::<_, BuildError>(())
        };
        for entry in &index.manifests {
            note(entry)?;
            if is_list(entry) {
                let list: Index = parse(entry, &source.document(work, entry)?)?;
                list.manifests.iter().try_for_each(&mut note)?;
            }
        }
        Ok(Self::Listed(listed))
    }

    /// What points to a manifest.
    fn of(&self, work: &Work<'_>, subject: BlobDigest) -> Result<Vec<Descriptor>, BuildError> {
        match self {
            Self::Registry(repository) => {
                let found = work.engine.registry.referrers(repository, subject, None);
                found.map_err(|error| registry_error(None, &error))
            }
            Self::Listed(listed) => Ok(listed.get(&subject).cloned().unwrap_or_default()),
        }
    }
}

/// Whether an entry of a layout lists what points to something.
fn is_list(entry: &Descriptor) -> bool {
    let name = entry.annotations.get(NAMES[0]).and_then(|name| name.strip_prefix("sha256-"));
    media_type::is_index(&entry.media_type)
        && name.is_some_and(|hex| format!("sha256:{hex}").parse::<BlobDigest>().is_ok())
}

/// Goes through all that points to these manifests, and to that in turn. `visit` is given a subject and
/// what was found for it, and gives the manifests in which that consists.
fn walk(
    work: &Work<'_>,
    (lookup, subjects): (&Lookup, Vec<BlobDigest>),
    mut visit: impl FnMut(BlobDigest, Vec<Descriptor>) -> Result<Vec<BlobDigest>, BuildError>,
) -> Result<(), BuildError> {
    let mut asked: BTreeSet<BlobDigest> = subjects.iter().copied().collect();
    let mut queue = VecDeque::from(subjects);
    let mut seen = BTreeSet::new();
    while let Some(subject) = queue.pop_front() {
        if work.is_cancelled() {
            return Err(BuildError::Canceled);
        }
        let mut found = lookup.of(work, subject)?;
        found.retain(|descriptor| seen.insert(descriptor.digest));
        if found.is_empty() {
            continue;
        }
        if seen.len() > MOST {
            let message = format!("more than {MOST} artifacts point to the image");
            return Err(BuildError::Image { message, help: None });
        }
        queue.extend(visit(subject, found)?.into_iter().filter(|next| asked.insert(*next)));
    }
    Ok(())
}

impl ImagePlace {
    /// What a place has under a name, and what points to it and to the manifests of an index: of one type
    /// of artifacts, or of all.
    ///
    /// # Errors
    /// When there is nothing of the name, or it cannot be read.
    pub fn find_referrers(
        &self,
        engine: &Engine,
        artifact_type: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<(FoundImage, Vec<Referrer>), BuildError> {
        transfer(engine, format!("inspect {self}"), watch, |work| {
            let (source, descriptor) = Source::open(work, self)?;
            let bytes = source.document(work, &descriptor)?;
            let mut subjects = vec![descriptor.digest];
            if media_type::is_index(&descriptor.media_type) {
                let index: Index = parse(&descriptor, &bytes)?;
                subjects.extend(index.manifests.iter().map(|manifest| manifest.digest));
            }
            let lookup = Lookup::open(work, &source, self)?;
            let mut all = Vec::new();
            walk(work, (&lookup, subjects), |subject, mut found| {
                if let Some(wanted) = artifact_type {
                    found.retain(|descriptor| descriptor.artifact_type() == Some(wanted));
                }
                let digests = found.iter().map(|descriptor| descriptor.digest).collect();
                all.extend(found.into_iter().map(|descriptor| Referrer { subject, descriptor }));
                Ok(digests)
            })?;
            Ok((FoundImage { descriptor, bytes }, all))
        })
    }
}

/// Copies what points to an image that has been copied. Gives how many artifacts there are.
pub(super) fn copy_referrers(
    work: &Work<'_>,
    (source, lookup, image): (&Source, &Lookup, &Tree),
    to: &ImagePlace,
) -> Result<usize, BuildError> {
    let subjects = digests(image);
    let mut count = 0;
    walk(work, (lookup, subjects), |subject, found| {
        let there: BTreeSet<BlobDigest> = match to {
            ImagePlace::Registry(name) => {
                let there = work.engine.registry.pushed_referrers(&Repository::from(name), subject);
                let there = there.map_err(|error| registry_error(None, &error))?;
                there.iter().map(|descriptor| descriptor.digest).collect()
            }
            ImagePlace::Layout { .. } | ImagePlace::Archive { .. } => BTreeSet::new(),
        };
        let mut parts = Vec::new();
        for descriptor in found {
            let digest = descriptor.digest;
            let tree = Tree::collect(work, source, descriptor, &Wanted::All)?;
            let root = tree.documents.last().expect("a tree has a root");
            let points_to =
                Referrer::of(&root.descriptor.media_type, &root.bytes).map(|known| known.subject);
            // A list that others write may name anything.
            if points_to != Some(subject) {
                continue;
            }
            count += 1;
            parts.extend(digests(&tree));
            match to {
                ImagePlace::Registry(_) if there.contains(&digest) => {}
                ImagePlace::Registry(name) => send(work, (source, tree), name)?,
                ImagePlace::Layout { path, .. } => {
                    target::add_referrer(work, (source, &tree), path)?;
                }
                ImagePlace::Archive { .. } => unreachable!("an archive is refused before"),
            }
        }
        Ok(parts)
    })?;
    Ok(count)
}

fn digests(tree: &Tree) -> Vec<BlobDigest> {
    tree.documents.iter().map(|document| document.descriptor.digest).collect()
}

/// Sends an artifact that its subject's list does not have.
fn send(
    work: &Work<'_>,
    (source, tree): (&Source, Tree),
    name: &Reference,
) -> Result<(), BuildError> {
    let by_digest = Reference { tag: None, digest: None, ..name.clone() };
    let (client, repository) = (&work.engine.registry, Repository::from(&by_digest));
    let root = tree.documents.last().expect("a tree has a root");
    let digest = root.descriptor.digest;
    let there = client.pushed_digest(&repository, &digest.to_string());
    if there.map_err(|error| registry_error(None, &error))? != Some(digest) {
        return registry::send(work, (source, tree, None), &[by_digest]).map(drop);
    }
    // It came with something else, or its list got lost: who takes it again lists it.
    let content = (root.descriptor.media_type.as_str(), root.bytes.as_slice());
    let put = client.push_manifest(&repository, &digest.to_string(), content);
    put.map(drop).map_err(|error| registry_error(None, &error))
}
