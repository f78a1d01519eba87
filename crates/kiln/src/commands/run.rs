//! `kiln run`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use kiln_core::plan::Network;

use crate::config::Config;
use crate::failure::Failure;
use crate::session::Session;

/// Run a command in a container of an image, in the foreground
///
/// The container ends with its command, whose exit code is kiln's, and leaves nothing behind: what
/// it writes outside of `-v` is thrown away. Its network is the host's unless `--network none`.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "kiln run [OPTIONS] IMAGE [COMMAND]...",
    after_help = "Examples:
  kiln run app:1                              the image's own command
  kiln run -it --entrypoint sh app:1          a shell in it
  kiln run -v ./src:/app/src:ro -w /app app:1 python -m pytest
  kiln run --env-file .env -e DEBUG=1 --user 1000 --network none app:1 env"
)]
pub(crate) struct Run {
    /// Name or id of the image, then the command instead of the image's CMD
    #[arg(value_name = "IMAGE", required = true, trailing_var_arg = true)]
    image_and_command: Vec<String>,
    /// Environment variable; repeatable. NAME alone takes it from the environment
    #[arg(short, long = "env", value_name = "NAME[=VALUE]")]
    environment: Vec<String>,
    /// File of NAME=VALUE lines; repeatable
    #[arg(long = "env-file", value_name = "FILE")]
    environment_files: Vec<PathBuf>,
    /// Show a directory or file of the host in the container; repeatable
    #[arg(short, long = "volume", value_name = "HOST:CONTAINER[:ro]")]
    volumes: Vec<Volume>,
    /// Working directory
    #[arg(short, long = "workdir", value_name = "DIR")]
    working_directory: Option<String>,
    /// User (and group) by name or id
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Program instead of the image's ENTRYPOINT; empty for none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Network: host or none
    #[arg(long, value_enum, value_name = "MODE", default_value = "host")]
    network: RunNetwork,
    /// Connect standard input
    #[arg(short, long)]
    interactive: bool,
    /// Connect the terminal: the container has kiln's own
    #[arg(short, long)]
    tty: bool,
    /// Accepted, because every container is removed at its end
    #[arg(long)]
    rm: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum RunNetwork {
    /// The host's
    Host,
    /// None but loopback
    None,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunRequest {
    /// Name, digest or start of an image id.
    pub(crate) image: String,
    /// Instead of the image's ENTRYPOINT; `Some([])` for none. When it is given, the image's CMD
    /// does not count.
    pub(crate) entrypoint: Option<Vec<String>>,
    /// Instead of the image's CMD, when not empty.
    pub(crate) command: Vec<String>,
    /// Over the image's ENV, in this order: the last of a name wins.
    pub(crate) environment: Vec<(String, String)>,
    /// What of the host the container sees.
    pub(crate) volumes: Vec<Volume>,
    /// Instead of the image's WORKDIR.
    pub(crate) working_directory: Option<String>,
    /// Instead of the image's USER.
    pub(crate) user: Option<String>,
    /// Network.
    pub(crate) network: Network,
    /// Where standard input comes from.
    pub(crate) stdin: Stdin,
}

/// A container's standard input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stdin {
    /// Empty.
    Null,
    /// kiln's own.
    Inherit,
}

/// A directory or file of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    /// Path on the host, absolute after [`Run::request`].
    pub(crate) host: PathBuf,
    /// Absolute path in the container.
    pub(crate) container: PathBuf,
    /// Whether the container may write.
    pub(crate) access: Access,
}

/// What a container may do with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Read and write.
    ReadWrite,
    /// Only read.
    ReadOnly,
}

impl FromStr for Volume {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(host), Some(container)) = (parts.next(), parts.next()) else {
            return Err("expected HOST:CONTAINER[:ro]".to_owned());
        };
        let access = match parts.next() {
            None | Some("rw") => Access::ReadWrite,
            Some("ro") => Access::ReadOnly,
            Some(other) => return Err(format!("`{other}` is not possible; it is ro or rw")),
        };
        if parts.next().is_some() {
            return Err("expected HOST:CONTAINER[:ro]".to_owned());
        }
        if !host.contains('/') && host != "." {
            return Err(format!(
                "named volumes are not supported; for a directory write `./{host}`"
            ));
        }
        if !container.starts_with('/') {
            return Err(format!("`{container}` is not an absolute path"));
        }
        Ok(Self { host: PathBuf::from(host), container: PathBuf::from(container), access })
    }
}

impl Run {
    /// Runs the command; gives the container's exit code.
    pub(crate) fn run(&self, config: &Config) -> Result<ExitCode, Failure> {
        let request = self.request(config)?;
        Session::open(config)?.run(&request)
    }

    fn request(&self, config: &Config) -> Result<RunRequest, Failure> {
        let mut words = self.image_and_command.iter().cloned();
        let image = words.next().ok_or_else(|| Failure::usage("no image"))?;
        let entrypoint = self.entrypoint.as_ref().map(|program| {
            let program = Some(program.clone()).filter(|program| !program.is_empty());
            program.into_iter().collect()
        });
        Ok(RunRequest {
            image,
            entrypoint,
            command: words.collect(),
            environment: self.environment(config)?,
            volumes: self.volumes(&config.working_directory)?,
            working_directory: self.working_directory.clone(),
            user: self.user.clone(),
            network: match self.network {
                RunNetwork::Host => Network::Host,
                RunNetwork::None => Network::None,
            },
            stdin: if self.interactive || self.tty { Stdin::Inherit } else { Stdin::Null },
        })
    }

    /// Files first, then `-e`: the last of a name wins. A bare name that is not set is left out.
    fn environment(&self, config: &Config) -> Result<Vec<(String, String)>, Failure> {
        let mut environment = Vec::new();
        let mut add = |text: &str| {
            let pair = match text.split_once('=') {
                Some((name, value)) => Some((name, value)),
                None => config.variables.get(text).map(|value| (text, value.as_str())),
            };
            environment.extend(pair.map(|(name, value)| (name.to_owned(), value.to_owned())));
        };
        for path in &self.environment_files {
            let text = std::fs::read_to_string(path);
            let text = text.map_err(|error| Failure::file("open", path, error))?;
            let lines = text.lines().map(str::trim_start);
            for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                add(line);
            }
        }
        for text in &self.environment {
            if text.is_empty() || text.starts_with('=') {
                return Err(Failure::usage(format!("`-e {text}` names no variable")));
            }
            add(text);
        }
        Ok(environment)
    }

    fn volumes(&self, working_directory: &Path) -> Result<Vec<Volume>, Failure> {
        let absolute = |volume: &Volume| {
            let host =
                working_directory.join(volume.host.strip_prefix(".").unwrap_or(&volume.host));
            match host.try_exists() {
                Ok(true) => Ok(Volume { host, ..volume.clone() }),
                Ok(false) => {
                    let text = format!("`-v`: {} does not exist", host.display());
                    Err(Failure::input("no-file", text))
                }
                Err(error) => Err(Failure::file("open", &host, error)),
            }
        };
        self.volumes.iter().map(absolute).collect()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        run: Run,
    }

    fn request(words: &[&str]) -> Result<RunRequest, String> {
        let words = std::iter::once("run").chain(words.iter().copied());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        let mut config = Config::default();
        config.variables.insert("HERE".to_owned(), "yes".to_owned());
        command.run.request(&config).map_err(|failure| failure.to_string())
    }

    #[test]
    fn what_follows_the_image_is_the_command() {
        let request =
            request(&["-it", "-e", "A=1", "img", "sh", "-c", "-e", "--rm", "--"]).unwrap();
        assert_eq!(request.image, "img");
        assert_eq!(request.command, ["sh", "-c", "-e", "--rm", "--"]);
        assert_eq!(request.stdin, Stdin::Inherit);
        assert_eq!(request.environment, [("A".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn flags_stand_before_the_image() {
        let request = request(&["img", "-e", "x"]).unwrap();
        assert_eq!(request.command, ["-e", "x"]);
        assert_eq!(request.entrypoint, None);
    }

    #[test]
    fn variables_come_from_files_and_the_environment() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("env");
        std::fs::write(&file, "# text\n\nA=1 2\nHERE\nGONE\n").unwrap();
        let file = file.to_str().unwrap();
        let request = request(&["--env-file", file, "-e", "A=3", "img"]).unwrap();
        let pairs: Vec<String> =
            request.environment.iter().map(|(a, b)| format!("{a}={b}")).collect();
        assert_eq!(pairs, ["A=1 2", "HERE=yes", "A=3"]);
    }

    #[test]
    fn an_empty_entrypoint_takes_the_images_away() {
        assert_eq!(request(&["--entrypoint", "", "img"]).unwrap().entrypoint, Some(vec![]));
        let named = request(&["--entrypoint", "sh", "img"]).unwrap().entrypoint;
        assert_eq!(named, Some(vec!["sh".to_owned()]));
    }

    #[test]
    fn volumes_are_checked() {
        let volume = |text: &str| text.parse::<Volume>();
        assert_eq!(volume("/a:/b:ro").unwrap().access, Access::ReadOnly);
        assert_eq!(volume("./a:/b").unwrap().access, Access::ReadWrite);
        assert!(volume("data:/b").unwrap_err().contains("named volumes"));
        assert!(volume("/a").unwrap_err().contains("expected HOST:CONTAINER"));
        assert!(volume("/a:b").unwrap_err().contains("not an absolute path"));
        assert!(volume("/a:/b:z").unwrap_err().contains("ro or rw"));
        assert!(request(&["-v", "/no/such:/b", "img"]).unwrap_err().contains("does not exist"));
    }
}
