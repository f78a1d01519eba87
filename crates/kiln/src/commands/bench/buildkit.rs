//! BuildKit: the daemon that `BUILDKIT_HOST` names, else one that is started here with a directory of its own.

use std::fs::File;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::builder::{Bases, Builder, Fault, Freshness, Job, is_installed, output};
use crate::config::Config;

/// How long the daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// BuildKit.
#[derive(Debug)]
pub(super) struct Buildkit {
    version: String,
    address: String,
    /// Variables that `--build-arg NAME` takes.
    config: Config,
    daemon: Option<Daemon>,
    space: String,
    cleaned: usize,
}

/// A daemon of our own.
#[derive(Debug)]
struct Daemon {
    process: Child,
    work: PathBuf,
    /// Paths of sockets are short.
    socket_directory: PathBuf,
    number: usize,
}

impl Buildkit {
    /// The daemon that answers, or one that is started.
    pub(super) fn find(work: &Path, mark: u64, config: &Config) -> Result<Self, Fault> {
        let advice = "install BuildKit (buildctl and buildkitd), or leave it out of `--against`";
        if !is_installed("buildctl") {
            return Err(Fault::new("buildctl is not installed").with_help(advice));
        }
        let (address, daemon) = match config.variable("BUILDKIT_HOST") {
            Some(address) => (address.to_owned(), None),
            None if !is_installed("buildkitd") => {
                let fault =
                    Fault::new("there is no BuildKit daemon, and buildkitd is not installed");
                return Err(
                    fault.with_help("install buildkitd, or say with BUILDKIT_HOST where one is")
                );
            }
            None if !config.is_root() => {
                let fault = Fault::new("only root can start buildkitd");
                return Err(fault.with_help(
                    "start one (rootlesskit buildkitd), and say with BUILDKIT_HOST where it is",
                ));
            }
            None => {
                let daemon = Daemon::start(work.join("buildkit"), mark)?;
                (daemon.address(), Some(daemon))
            }
        };
        let text = output(Command::new("buildctl").arg("--version"))?;
        let mut buildkit = Self {
            version: text.split_whitespace().nth(2).unwrap_or(&text).to_owned(),
            address,
            config: config.clone(),
            daemon,
            space: format!("kiln-bench-{mark}"),
            cleaned: 0,
        };
        buildkit.wait()?;
        Ok(buildkit)
    }

    fn buildctl(&self) -> Command {
        let mut command = Command::new("buildctl");
        command.args(["--addr", &self.address]);
        command
    }

    /// Until the daemon answers.
    fn wait(&mut self) -> Result<(), Fault> {
        let begin = Instant::now();
        loop {
            let answer = output(self.buildctl().args(["debug", "workers"]));
            let Err(fault) = answer else { return Ok(()) };
            let Some(daemon) = &mut self.daemon else {
                return Err(fault.with_help("BUILDKIT_HOST says where the daemon is"));
            };
            let ended = daemon.process.try_wait().ok().flatten();
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let log = std::fs::read_to_string(daemon.log()).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let said = lines[lines.len().saturating_sub(10)..].iter();
                let said = said.map(ToString::to_string).collect();
                return Err(Fault { said, ..Fault::new("buildkitd does not start") });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn add_option(&self, command: &mut Command, (flag, value): (&str, &str), number: usize) {
        let pair = value.split_once('=');
        let word = match (flag, pair) {
            ("--build-arg", Some(_)) => format!("build-arg:{value}"),
            ("--build-arg", None) => match self.config.variables.get(value) {
                Some(set) => format!("build-arg:{value}={set}"),
                None => return,
            },
            ("--build-context", Some((name, place))) => {
                if let Some(layout) = place.strip_prefix("oci-layout://") {
                    let (path, reference) = layout_parts(layout);
                    command.args(["--oci-layout", &format!("layout{number}={path}")]);
                    format!("context:{name}=oci-layout://layout{number}{reference}")
                } else if place.contains("://") {
                    format!("context:{name}={place}")
                } else {
                    command.args(["--local", &format!("context{number}={place}")]);
                    format!("context:{name}=local:context{number}")
                }
            }
            ("--label", _) => format!("label:{value}"),
            ("--shm-size", _) => format!("shm-size={value}"),
            ("--network", _) => {
                if value == "host" {
                    command.args(["--allow", "network.host"]);
                }
                format!("force-network-mode={value}")
            }
            // One option holds all of them.
            ("--platform" | "--add-host" | "--ulimit", _) => return,
            (flag, _) => {
                command.args([flag, value]);
                return;
            }
        };
        command.args(["--opt", &word]);
    }
}

/// The directory of a layout, and what of it is meant as BuildKit wants it: by its digest.
fn layout_parts(layout: &str) -> (&str, String) {
    if let Some((path, digest)) = layout.split_once('@') {
        let path = path.rsplit_once(':').map_or(path, |(path, _)| path);
        return (path, format!("@{digest}"));
    }
    let (path, tag) = match layout.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (layout, None),
    };
    let index = std::fs::read(Path::new(path).join("index.json")).unwrap_or_default();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap_or_default();
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    let is_meant = |manifest: &&serde_json::Value| {
        let name = &manifest["annotations"]["org.opencontainers.image.ref.name"];
        tag.is_none_or(|tag| name == tag)
    };
    let digest = manifests.iter().find(is_meant).and_then(|found| found["digest"].as_str());
    (path, digest.map_or_else(String::new, |digest| format!("@{digest}")))
}

impl Builder for Buildkit {
    fn name(&self) -> &'static str {
        "buildkit"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn notes(&self) -> Vec<String> {
        let clean = "buildkit: clean builds are those of --no-cache with empty cache mounts; \
                     the result stays in its cache, no image is written";
        vec![clean.to_owned()]
    }

    fn prepare(&mut self, _: &Job) -> Result<(), Fault> {
        Ok(())
    }

    fn forget(&mut self, job: &Job) -> Result<(), Fault> {
        self.cleaned += 1;
        match &mut self.daemon {
            Some(daemon) if job.bases == Bases::Pulled => {
                daemon.restart()?;
                self.wait()
            }
            _ => Ok(()),
        }
    }

    fn commands(&self, job: &Job, freshness: Freshness) -> Vec<Command> {
        let directory = job.dockerfile.parent().filter(|parent| *parent != Path::new(""));
        let directory = directory.unwrap_or(Path::new(".")).display();
        let name = job.dockerfile.file_name().unwrap_or_default().to_string_lossy();
        let command = |target: Option<&str>| {
            let mut command = self.buildctl();
            command.args(["build", "--progress", "plain", "--frontend", "dockerfile.v0"]);
            command.args(["--local", &format!("context={}", job.context.display())]);
            command.args(["--local", &format!("dockerfile={directory}")]);
            command.args(["--opt", &format!("filename={name}")]);
            for (number, option) in job.options.common().into_iter().enumerate() {
                self.add_option(&mut command, option, number);
            }
            for (flag, name) in
                [("--platform", "platform"), ("--add-host", "add-hosts"), ("--ulimit", "ulimit")]
            {
                let values: Vec<String> = job
                    .options
                    .common()
                    .iter()
                    .filter(|(option, _)| *option == flag)
                    .map(|(_, value)| match flag {
                        "--add-host" => value.replacen(':', "=", 1),
                        _ => (*value).to_owned(),
                    })
                    .collect();
                if !values.is_empty() {
                    command.args(["--opt", &format!("{name}={}", values.join(","))]);
                }
            }
            let space = format!("{}-{}", self.space, self.cleaned);
            command.args(["--opt", &format!("build-arg:BUILDKIT_CACHE_MOUNT_NS={space}")]);
            if let Some(target) = target {
                command.args(["--opt", &format!("target={target}")]);
            }
            if freshness == Freshness::Clean {
                command.arg("--no-cache");
            }
            command
        };
        job.each_target().into_iter().map(command).collect()
    }
}

impl Daemon {
    fn start(work: PathBuf, mark: u64) -> Result<Self, Fault> {
        let socket_directory = PathBuf::from(format!("/tmp/kiln-bench-{mark}"));
        let wrong = |error: std::io::Error| Fault::new(format!("start buildkitd: {error}"));
        std::fs::create_dir_all(&work).map_err(wrong)?;
        std::fs::DirBuilder::new().mode(0o700).create(&socket_directory).map_err(wrong)?;
        let process = run(&work, &socket_directory, 0).map_err(wrong)?;
        Ok(Self { process, work, socket_directory, number: 0 })
    }

    fn address(&self) -> String {
        format!("unix://{}", self.socket_directory.join("socket").display())
    }

    fn log(&self) -> PathBuf {
        self.work.join("log")
    }

    /// Goes on with nothing. What was there is deleted at the very end.
    fn restart(&mut self) -> Result<(), Fault> {
        self.stop();
        self.number += 1;
        self.process = run(&self.work, &self.socket_directory, self.number)
            .map_err(|error| Fault::new(format!("start buildkitd: {error}")))?;
        Ok(())
    }

    fn stop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let _ = self.process.wait();
    }
}

fn run(work: &Path, socket_directory: &Path, number: usize) -> std::io::Result<Child> {
    let log = File::create(work.join("log"))?;
    Command::new("buildkitd")
        .arg("--root")
        .arg(work.join(format!("root-{number}")))
        .arg("--addr")
        .arg(format!("unix://{}", socket_directory.join("socket").display()))
        .args(["--oci-worker-net=host", "--oci-worker-gc=false"])
        .args(["--allow-insecure-entitlement", "network.host"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
        let _ = std::fs::remove_dir_all(&self.socket_directory);
    }
}
