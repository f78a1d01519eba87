//! `kiln pull`

use kiln_core::oci::{Platform, Reference};

use super::transfer::watched;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;

/// Bring images of registries into the store
///
/// Prints each name with the digest of what the store has under it. A build with this name as its
/// base uses it.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln pull --platform linux/arm64 debian:13-slim")]
pub(crate) struct Pull {
    /// Names, each with its tag (default: latest) or digest
    #[arg(required = true, value_name = "NAME[:TAG|@DIGEST]")]
    names: Vec<Reference>,
    /// Platform of the image (default: this machine's)
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,
    /// Bring the images of all platforms, under the registry's own index
    #[arg(long, conflicts_with = "platform")]
    all_platforms: bool,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Pull {
    /// Runs the command: brings one after the other until one fails.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let named = self.platform.clone().unwrap_or_else(Platform::host);
        let platform = (!self.all_platforms).then_some(&named);
        let mut warnings = Vec::new();
        let result = watched(config, self.quiet, |session, watching| {
            for name in &self.names {
                let digest = session.pull((name, platform), watching)?;
                render::print_lines(&[format!("{}@{digest}", bare(name).familiar())]);
                if let Some(wanted) = &self.platform {
                    warnings.extend(other(&session.image(&digest)?.config.platform(), wanted));
                }
            }
            Ok(())
        });
        // Progress is over: nothing comes between.
        render::note_lines(&warnings);
        result
    }
}

/// A name without the digest that it was asked for by.
fn bare(name: &Reference) -> Reference {
    Reference { digest: None, ..name.clone() }
}

/// A warning of an image that is there for one platform alone: it came, whatever was asked for.
fn other(platform: &Platform, wanted: &Platform) -> Option<String> {
    let machine = |platform: &Platform| (platform.os.clone(), platform.architecture.clone());
    (machine(platform) != machine(wanted))
        .then(|| format!("warning: this image is for {platform}: there is none for {wanted}"))
}
