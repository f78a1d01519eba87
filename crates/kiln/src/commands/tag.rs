//! `kiln tag`

use super::build::options::TagOption;
use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

/// Give an image of the store further names
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kiln tag app:1 ghcr.io/me/app:1 ghcr.io/me/app:latest")]
pub(crate) struct Tag {
    /// The image: its name, its digest or the start of its id
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The names that it gets, each with its tag (default: latest)
    #[arg(required = true, value_name = "NAME[:TAG]")]
    names: Vec<TagOption>,
}

impl Tag {
    /// Runs the command.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        for name in &self.names {
            session.tag(&self.image, &name.reference)?;
        }
        session.settle();
        Ok(())
    }
}
