//! `kiln completions` and `kiln man`: made from the command line's own definition.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::failure::Failure;
use crate::render;

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln completions bash > ~/.local/share/bash-completion/completions/kiln
  kiln completions zsh > \"${fpath[1]}/_kiln\"
  kiln completions fish > ~/.config/fish/completions/kiln.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write manual pages, one for each command
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kiln man ~/.local/share/man/man1
  man kiln-build")]
pub(crate) struct Man {
    /// Directory to write them to; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    /// Runs the command.
    pub(crate) fn run(&self) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "kiln", &mut script);
        render::print_document(&script);
    }
}

impl Man {
    /// Runs the command.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        std::fs::create_dir_all(&self.directory)
            .map_err(|error| Failure::file("make", &self.directory, error))?;
        clap_mangen::generate_to(Cli::command(), &self.directory)
            .map_err(|error| Failure::file("write to", &self.directory, error))?;
        let place = self.directory.display();
        render::note_lines(&[format!("the manual is in {place}")]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("man1");
        Man { directory: place.clone() }.run().unwrap();
        let page = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
        assert!(page("kiln.1").contains("Build container images"));
        let build = page("kiln-build.1");
        assert!(build.contains(".TH kiln-build 1") && build.contains("build\\-context"), "{build}");
        assert!(page("kiln-cache-prune.1").contains("keep\\-storage"));
    }

    #[test]
    fn each_shell_has_completions() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "kiln", &mut script);
            let script = String::from_utf8(script).unwrap();
            assert!(script.contains("build-context"), "{shell}");
        }
    }
}
