//! `kiln version`

use crate::render;

/// Show kiln's version
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  kiln version")]
pub(crate) struct Version {}

impl Version {
    /// Runs the command.
    #[expect(clippy::unused_self, reason = "commands have one form")]
    pub(crate) fn run(&self) {
        render::print_lines(&[format!("kiln {}", env!("CARGO_PKG_VERSION"))]);
    }
}
