//! `kiln rmi`

use crate::config::Config;
use crate::failure::Failure;
use crate::render;
use crate::session::Session;

/// Remove names of images
///
/// The layers stay as long as another name or the build cache has use for them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kiln rmi app:1 ghcr.io/me/app:1")]
pub(crate) struct Rmi {
    /// Names, each with its tag (default: latest)
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
}

impl Rmi {
    /// Runs the command: removes what it can, and fails when there was a name that is not there.
    pub(crate) fn run(&self, config: &Config) -> Result<(), Failure> {
        let session = Session::open(config)?;
        let mut last = Ok(());
        for name in &self.names {
            match session.untag(name) {
                Ok(full) => render::print_lines(&[format!("untagged: {full}")]),
                Err(failure) => {
                    // Each is shown; the last one also decides the exit code.
                    if let Err(earlier) = std::mem::replace(&mut last, Err(failure)) {
                        render::show_failure(&earlier, config);
                    }
                }
            }
        }
        last
    }
}
