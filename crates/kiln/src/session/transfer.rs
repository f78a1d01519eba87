//! Images between the store, registries, layouts and archives, as commands see it.

use kiln_core::oci::{Platform, Reference, Referrer};
pub(crate) use kiln_engine::{
    ArchiveForm, FoundImage, ImagePlace, IndexBase, IndexEffect, IndexRequest, Watch,
};
use kiln_engine::{BuildError, ImageOptions};

use kiln_core::source::SourceFile;
use kiln_registry::{Client, Logins};
pub(crate) use kiln_registry::{LoginCheck, LoginPlace};

use super::{Session, build_failure, registry_config, store_failure};
use crate::config::Config;
use crate::failure::Failure;

impl Session {
    /// Sends an image of the store to the registry of its name; gives its digest there.
    pub(crate) fn push(&self, name: &Reference, watch: Watch<'_>) -> Result<String, Failure> {
        let image = self.image(&name.to_string())?;
        let what = (&image.descriptor, &ImageOptions::default());
        let digest = kiln_engine::push(&self.engine, what, std::slice::from_ref(name), watch);
        Ok(digest.map_err(|error| transfer_failure("push-failed", error))?.to_string())
    }

    /// Brings an image of a registry into the store; gives the digest of what has the name then.
    pub(crate) fn pull(
        &self,
        (name, platform): (&Reference, Option<&Platform>),
        watch: Watch<'_>,
    ) -> Result<String, Failure> {
        let root = kiln_engine::pull(&self.engine, (name, platform), watch);
        Ok(root.map_err(|error| transfer_failure("pull-failed", error))?.digest.to_string())
    }

    /// Copies an image between places outside of the store; gives its digest.
    pub(crate) fn copy_image(
        &self,
        places: (&ImagePlace, &ImagePlace),
        watch: Watch<'_>,
    ) -> Result<String, Failure> {
        let digest = kiln_engine::copy_image(&self.engine, places, watch);
        Ok(digest.map_err(|error| transfer_failure("copy-failed", error))?.to_string())
    }

    /// The same, with all that points to it; gives how many artifacts that are, too.
    pub(crate) fn copy_with_referrers(
        &self,
        (from, to): (&ImagePlace, &ImagePlace),
        watch: Watch<'_>,
    ) -> Result<(String, usize), Failure> {
        let copied = from.copy_with_referrers(&self.engine, to, watch);
        let (digest, count) = copied.map_err(|error| transfer_failure("copy-failed", error))?;
        Ok((digest.to_string(), count))
    }

    /// Joins images into an index and sends it; gives the index.
    pub(crate) fn join_images(
        &self,
        request: &IndexRequest,
        watch: Watch<'_>,
    ) -> Result<FoundImage, Failure> {
        kiln_engine::join_images(&self.engine, request, watch)
            .map_err(|error| transfer_failure("index-failed", error))
    }

    /// The manifest or index that a place has under a name.
    pub(crate) fn find_image(
        &self,
        place: &ImagePlace,
        watch: Watch<'_>,
    ) -> Result<FoundImage, Failure> {
        kiln_engine::find_image(&self.engine, place, watch)
            .map_err(|error| transfer_failure("no-image", error))
    }

    /// The same, and what points to it and to its manifests.
    pub(crate) fn find_referrers(
        &self,
        (place, artifact_type): (&ImagePlace, Option<&str>),
        watch: Watch<'_>,
    ) -> Result<(FoundImage, Vec<Referrer>), Failure> {
        place
            .find_referrers(&self.engine, artifact_type, watch)
            .map_err(|error| transfer_failure("no-image", error))
    }

    /// Gives an image of the store another name.
    pub(crate) fn tag(&self, source: &str, name: &Reference) -> Result<(), Failure> {
        let image = self.image(source)?;
        let images = self.store.images();
        images.tag(&name.to_string(), &image.descriptor).map_err(|error| store_failure(&error))
    }
}

impl Session {
    /// Tries a login, user and password, at a registry and keeps it. Needs no store.
    pub(crate) fn login(
        config: &Config,
        registry: &str,
        (user, password): (&str, &str),
    ) -> Result<(LoginCheck, LoginPlace), Failure> {
        let logins = logins(config)?;
        let client = Client::new(registry_config(config));
        let check = client.check_login(registry, user, password).map_err(|e| login_failure(&e))?;
        let place = match &check {
            LoginCheck::Exchanged(token) => logins.keep_identity(registry, user, token),
            LoginCheck::Accepted | LoginCheck::NotAsked => logins.keep(registry, user, password),
        }
        .map_err(|e| login_failure(&e))?;
        Ok((check, place))
    }

    /// Takes a login away; tells whether there was one.
    pub(crate) fn logout(config: &Config, registry: &str) -> Result<bool, Failure> {
        logins(config)?.erase(registry).map_err(|error| login_failure(&error))
    }
}

fn logins(config: &Config) -> Result<Logins, Failure> {
    let directory = config.docker_config().ok_or_else(|| {
        Failure::environment("it is not known where logins are kept")
            .with_help("set `HOME` or `DOCKER_CONFIG`")
    })?;
    Ok(Logins::new(&directory))
}

fn login_failure(error: &kiln_registry::Error) -> Failure {
    use kiln_registry::Error;
    let help = error.hint();
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    let message = format!("{error}{}", cause.unwrap_or_default());
    match error {
        Error::LoginRefused { .. } => Failure::Input { code: "login-refused", message, help },
        _ => Failure::Environment { message, help },
    }
}

fn transfer_failure(code: &'static str, error: BuildError) -> Failure {
    match error {
        BuildError::Image { message, help } => Failure::Input { code, message, help },
        error => build_failure(error, &SourceFile::new("", String::new())),
    }
}
