//! `kiln completions` and `kiln man`: made from the command line's own definition.

use std::io;
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
            .map_err(|error| Failure::file("make the directory", &self.directory, error))?;
        let mut root = Cli::command();
        root.build();
        self.write(&root).map_err(|error| Failure::file("write to", &self.directory, error))?;
        let place = self.directory.display();
        render::note_lines(&[format!("the manual is in {place}")]);
        Ok(())
    }

    /// Writes the pages of a command and of those below it.
    fn write(&self, command: &clap::Command) -> io::Result<()> {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        std::fs::write(self.directory.join(format!("{name}.1")), page(name, command)?)?;
        command.get_subcommands().try_for_each(|command| self.write(command))
    }
}

/// A page, with what `clap_mangen` has no place for: kiln's version, and examples in lines as they are.
fn page(name: &str, command: &clap::Command) -> io::Result<String> {
    let mut bytes = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut bytes)?;
    let mut page = String::new();
    let mut is_example = false;
    let text = String::from_utf8_lossy(&bytes).replace(".br\n\n.br\n", ".sp\n");
    for line in text.lines() {
        match line {
            ".SH EXTRA" => is_example = true,
            "Example:" | "Examples:" if is_example => page.push_str(".SH EXAMPLES\n.nf\n"),
            _ if line.starts_with(".TH ") => {
                let version = env!("CARGO_PKG_VERSION");
                page.push_str(&format!(".TH {name} 1 \"\" \"kiln {version}\" \"kiln\"\n"));
            }
            _ => {
                if is_example && line.starts_with(".SH ") {
                    page.push_str(".fi\n");
                    is_example = false;
                }
                page.push_str(line.trim_end());
                page.push('\n');
            }
        }
    }
    if is_example {
        page.push_str(".fi\n");
    }
    Ok(page)
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
        let prune = page("kiln-cache-prune.1");
        assert!(prune.contains("keep\\-storage"));
        let examples = ".SH EXAMPLES\n.nf\n  kiln cache prune \\-\\-dry\\-run                     what would go\n";
        assert!(prune.contains(examples) && prune.ends_with(".fi\n"), "{prune}");
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
