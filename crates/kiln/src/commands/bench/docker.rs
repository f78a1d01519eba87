//! Docker's engine: the one that `docker build` speaks to. It is the user's own, so nothing of it is
//! removed but the images that were made here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::builder::{Builder, Fault, Freshness, Job, is_installed, output};

/// Docker.
#[derive(Debug)]
pub(super) struct Docker {
    version: String,
    /// Where the ids of the last images are written.
    ids: PathBuf,
    images: BTreeSet<String>,
    /// Names the cache mounts, so that those of the user are not found.
    space: String,
    cleaned: usize,
}

impl Docker {
    /// The engine that answers.
    pub(super) fn find(work: &Path, mark: u64) -> Result<Self, Fault> {
        if !is_installed("docker") {
            return Err(Fault::new("docker is not installed")
                .with_help("install Docker (Debian: docker.io), or leave it out of `--against`"));
        }
        let mut ask = Command::new("docker");
        let version = output(ask.args(["version", "--format", "{{.Server.Version}}"]));
        let version = version.map_err(|fault| {
            fault.with_help("start the engine, or say with DOCKER_HOST where one is")
        })?;
        Ok(Self {
            version,
            ids: work.join("docker-images"),
            images: BTreeSet::new(),
            space: format!("kiln-bench-{mark}"),
            cleaned: 0,
        })
    }
}

impl Builder for Docker {
    fn name(&self) -> &'static str {
        "docker"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn notes(&self) -> Vec<String> {
        vec![
            "docker: clean builds are those of --no-cache with empty cache mounts; base images are in the engine"
                .to_owned(),
        ]
    }

    fn prepare(&mut self, _: &Job) -> Result<(), Fault> {
        std::fs::create_dir(&self.ids)
            .map_err(|error| Fault::new(format!("make {}: {error}", self.ids.display())))
    }

    fn forget(&mut self, _: &Job) -> Result<(), Fault> {
        self.cleaned += 1;
        Ok(())
    }

    fn commands(&self, job: &Job, freshness: Freshness) -> Vec<Command> {
        let command = |(number, target): (usize, Option<&str>)| {
            let mut command = Command::new("docker");
            command.env("DOCKER_BUILDKIT", "1").args(["build", "--progress=plain", "--iidfile"]);
            let id = self.ids.join(number.to_string());
            command.arg(id).arg("--file").arg(&job.dockerfile);
            for (flag, value) in job.options.common() {
                command.args([flag, value]);
            }
            let space = format!("BUILDKIT_CACHE_MOUNT_NS={}-{}", self.space, self.cleaned);
            command.args(["--build-arg", &space]);
            if freshness == Freshness::Clean {
                command.arg("--no-cache");
            }
            command.args(target.map(|target| format!("--target={target}")));
            command.arg(&job.context);
            command
        };
        job.each_target().into_iter().enumerate().map(command).collect()
    }

    fn after(&mut self) {
        let files = std::fs::read_dir(&self.ids).into_iter().flatten().flatten();
        let ids = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
        self.images.extend(ids.map(|id| id.trim().to_owned()).filter(|id| !id.is_empty()));
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        for id in &self.images {
            let mut ask = Command::new("docker");
            ask.args(["image", "inspect", "--format", "{{len .RepoTags}}", id]);
            // What the user has built, too, has a name, and would lose it.
            if output(&mut ask).is_ok_and(|names| names == "0") {
                let _ = output(Command::new("docker").args(["image", "rm", id]));
            }
        }
    }
}
