//! Images between the store, registries, layouts and archives, as commands see it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use kiln_core::event::EventSink;
use kiln_core::oci::{Platform, Reference};
pub(crate) use kiln_engine::ImagePlace;
use kiln_engine::{BuildError, ImageOptions, Watch};

use super::{Session, build_failure, store_failure};
use crate::failure::Failure;
use kiln_core::source::SourceFile;

/// Progress, and what ends a transfer.
pub(crate) type Watching<'a> = (&'a EventSink, &'a Arc<AtomicBool>);

impl Session {
    /// Sends an image of the store to the registry of its name; gives its digest there.
    pub(crate) fn push(
        &self,
        name: &Reference,
        (events, cancelled): Watching<'_>,
    ) -> Result<String, Failure> {
        let image = self.image(&name.to_string())?;
        let watch = Watch { events, cancelled };
        let what = (&image.descriptor, &ImageOptions::default());
        let digest = kiln_engine::push(&self.engine, what, std::slice::from_ref(name), watch);
        Ok(digest.map_err(|error| transfer_failure("push-failed", error))?.to_string())
    }

    /// Brings an image of a registry into the store; gives the digest of what has the name then.
    pub(crate) fn pull(
        &self,
        (name, platform): (&Reference, Option<&Platform>),
        (events, cancelled): Watching<'_>,
    ) -> Result<String, Failure> {
        let watch = Watch { events, cancelled };
        let root = kiln_engine::pull(&self.engine, (name, platform), watch);
        Ok(root.map_err(|error| transfer_failure("pull-failed", error))?.digest.to_string())
    }

    /// Copies an image between places outside of the store; gives its digest.
    pub(crate) fn copy_image(
        &self,
        places: (&ImagePlace, &ImagePlace),
        (events, cancelled): Watching<'_>,
    ) -> Result<String, Failure> {
        let watch = Watch { events, cancelled };
        let digest = kiln_engine::copy_image(&self.engine, places, watch);
        Ok(digest.map_err(|error| transfer_failure("copy-failed", error))?.to_string())
    }

    /// Gives an image of the store another name.
    pub(crate) fn tag(&self, source: &str, name: &Reference) -> Result<(), Failure> {
        let image = self.image(source)?;
        let images = self.store.images();
        images.tag(&name.to_string(), &image.descriptor).map_err(|error| store_failure(&error))
    }
}

fn transfer_failure(code: &'static str, error: BuildError) -> Failure {
    match error {
        BuildError::Image { message, help } => Failure::Input { code, message, help },
        error => build_failure(error, &SourceFile::new("", String::new())),
    }
}
