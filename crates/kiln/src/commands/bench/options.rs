//! Options of the builds that are measured: those of `kiln build` that other builders understand, too.
//! They are read by `kiln build`'s own rules before anything is built.

use clap::Parser;
use kiln_engine::BuildRequest;

use super::super::build::Build;
use crate::config::Config;
use crate::failure::Failure;

/// What is built, and how.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of the build, as of `kiln build`")]
pub(super) struct BuildOptions {
    /// The Dockerfile (default: CONTEXT/Dockerfile)
    #[arg(short, long, value_name = "PATH")]
    file: Option<String>,
    /// Stage to build (default: the last); repeatable
    #[arg(long = "target", value_name = "STAGE", value_delimiter = ',')]
    targets: Vec<String>,
    /// Value of an ARG; repeatable
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Another context that FROM, COPY --from and mounts can name; repeatable
    #[arg(long = "build-context", value_name = "NAME=PLACE")]
    build_contexts: Vec<String>,
    /// Secret for RUN --mount=type=secret; repeatable
    #[arg(long = "secret", value_name = "SECRET")]
    secrets: Vec<String>,
    /// SSH agent for RUN --mount=type=ssh; repeatable
    #[arg(long = "ssh", value_name = "AGENT")]
    ssh: Vec<String>,
    /// Label of the image; repeatable
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// Platform to build for; repeatable
    #[arg(long = "platform", value_name = "OS/ARCH", value_delimiter = ',')]
    platforms: Vec<String>,
    /// Network of RUN
    #[arg(long, value_name = "MODE")]
    network: Option<String>,
    /// Line of /etc/hosts for RUN; repeatable
    #[arg(long = "add-host", value_name = "NAME:ADDRESS")]
    extra_hosts: Vec<String>,
    /// Limit of RUN; repeatable
    #[arg(long = "ulimit", value_name = "NAME=SOFT[:HARD]")]
    ulimits: Vec<String>,
    /// Size of /dev/shm for RUN
    #[arg(long, value_name = "BYTES")]
    shm_size: Option<String>,
    /// Show RUN the host's CA certificates (or FILE) from outside the image; kiln's own, the others have no
    /// such thing
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    host_ca: Option<String>,
}

/// The options of a build, where there is no command line.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, args_override_self = true)]
struct Words {
    #[command(flatten)]
    build: Build,
}

impl BuildOptions {
    /// What `-f` says.
    pub(super) fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Stages that are asked for, each once; none is the last one.
    pub(super) fn targets(&self) -> Vec<&str> {
        let mut targets: Vec<&str> = Vec::new();
        for target in self.targets.iter().filter(|target| !target.is_empty()) {
            if !targets.contains(&target.as_str()) {
                targets.push(target);
            }
        }
        targets
    }

    /// Whether steps see the host's authorities.
    pub(super) fn has_host_ca(&self) -> bool {
        self.host_ca.is_some()
    }

    /// The options that all builders have, less the stages and the Dockerfile.
    pub(super) fn common(&self) -> Vec<(&'static str, &str)> {
        let lists: [(&'static str, &[String]); 8] = [
            ("--build-arg", &self.build_args),
            ("--build-context", &self.build_contexts),
            ("--secret", &self.secrets),
            ("--ssh", &self.ssh),
            ("--label", &self.labels),
            ("--platform", &self.platforms),
            ("--add-host", &self.extra_hosts),
            ("--ulimit", &self.ulimits),
        ];
        let lists = lists
            .into_iter()
            .flat_map(|(flag, values)| values.iter().map(move |value| (flag, value.as_str())));
        let network = self.network.iter().map(|mode| ("--network", mode.as_str()));
        let shm_size = self.shm_size.iter().map(|size| ("--shm-size", size.as_str()));
        lists.chain(network).chain(shm_size).collect()
    }

    /// All of them as words of `kiln build`.
    pub(super) fn words(&self) -> Vec<String> {
        let target = self.targets().into_iter().map(|target| ("--target", target));
        let words = self.common().into_iter().chain(target);
        let mut words: Vec<String> = words.map(|(flag, value)| format!("{flag}={value}")).collect();
        words.extend(self.host_ca.as_ref().map(|file| match file.as_str() {
            "" => "--host-ca".to_owned(),
            file => format!("--host-ca={file}"),
        }));
        words
    }

    /// The build as `kiln build` would do it in `context`.
    ///
    /// # Errors
    /// Those that `kiln build` has.
    pub(super) fn request(&self, context: &str, config: &Config) -> Result<BuildRequest, Failure> {
        let mut words = self.words();
        words.extend(self.file.iter().map(|file| format!("--file={file}")));
        words.extend(["--".to_owned(), context.to_owned()]);
        request(&words, config)
    }
}

/// The request of `kiln build` with these words.
pub(super) fn request(words: &[String], config: &Config) -> Result<BuildRequest, Failure> {
    let parsed = Words::try_parse_from(words).map_err(|error| {
        let text = error.to_string();
        let line = text.lines().next().unwrap_or_default();
        Failure::usage(line.strip_prefix("error: ").unwrap_or(line))
    })?;
    Ok(parsed.build.request(config)?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_those_of_a_build() {
        let text = |text: &str| text.to_owned();
        let options = BuildOptions {
            targets: vec![text("a"), text("b"), text("a")],
            build_args: vec![text("X=1")],
            network: Some(text("host")),
            host_ca: Some(String::new()),
            ..BuildOptions::default()
        };
        assert_eq!(
            options.words(),
            ["--build-arg=X=1", "--network=host", "--target=a", "--target=b", "--host-ca"]
        );
        let wrong = BuildOptions { build_contexts: vec![text("x")], ..BuildOptions::default() };
        let failure = wrong.request(".", &Config::default()).unwrap_err();
        assert_eq!(
            failure.to_string(),
            "invalid value 'x' for '--build-context <NAME=PLACE>': expected NAME=VALUE"
        );
    }
}
