//! `kiln push`

use kiln_core::oci::Reference;

use super::build::options::TagOption;
use super::transfer::watched;
use crate::config::Config;
use crate::failure::Failure;
use crate::render;

/// Send images of the store to their registries
///
/// Prints each name with the digest that it has there. Layers are compressed with gzip; what the
/// registry has is not sent again, and layers of a base image in the same registry are mounted from
/// there.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  kiln build -t ghcr.io/me/app:1 . && kiln push ghcr.io/me/app:1"
)]
pub(crate) struct Push {
    /// Names, each with its tag (default: latest)
    #[arg(required = true, value_name = "NAME[:TAG]")]
    names: Vec<TagOption>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

impl Push {
    /// Runs the command: sends one after the other until one fails.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        watched(config, self.quiet, |session, watching| {
            for name in &self.names {
                let reference: &Reference = &name.reference;
                let digest = session.push(reference, watching)?;
                render::print_lines(&[format!("{}@{digest}", reference.familiar())]);
            }
            Ok(())
        })
    }
}
