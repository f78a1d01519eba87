//! buildah, with a store of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::builder::{Bases, Builder, Fault, Freshness, Job, is_installed, output};

/// buildah.
#[derive(Debug)]
pub(super) struct Buildah {
    version: String,
    work: PathBuf,
    /// Of clean builds: each has its own directory for cache mounts, or a store of its own.
    cleaned: usize,
    bases: Bases,
}

impl Buildah {
    /// The program on this machine.
    pub(super) fn find(work: &Path, bases: Bases) -> Result<Self, Fault> {
        if !is_installed("buildah") {
            return Err(Fault::new("buildah is not installed")
                .with_help("install buildah, or leave it out of `--against`"));
        }
        let text = output(Command::new("buildah").arg("--version"))?;
        let version = text.split_whitespace().nth(2).unwrap_or(&text).to_owned();
        Ok(Self { version, work: work.join("buildah"), cleaned: 0, bases })
    }

    fn store(&self) -> PathBuf {
        match self.bases {
            Bases::Kept => self.work.join("store"),
            Bases::Pulled => self.work.join(format!("store-{}", self.cleaned)),
        }
    }

    /// Where `RUN --mount=type=cache` is kept.
    fn mounts(&self) -> PathBuf {
        self.work.join(format!("mounts-{}", self.cleaned))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        command.env("TMPDIR", self.mounts());
        command.arg("--root").arg(self.store().join("root"));
        command.arg("--runroot").arg(self.store().join("run"));
        command
    }
}

impl Builder for Buildah {
    fn name(&self) -> &'static str {
        "buildah"
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn notes(&self) -> Vec<String> {
        Vec::new()
    }

    fn prepare(&mut self, _: &Job) -> Result<(), Fault> {
        let mounts = self.mounts();
        std::fs::create_dir_all(&mounts)
            .map_err(|error| Fault::new(format!("make {}: {error}", mounts.display())))
    }

    fn forget(&mut self, job: &Job) -> Result<(), Fault> {
        self.cleaned += 1;
        self.prepare(job)
    }

    fn commands(&self, job: &Job, freshness: Freshness) -> Vec<Command> {
        let command = |target: Option<&str>| {
            let mut command = self.command();
            command.args(["build", "--layers", "--file"]).arg(&job.dockerfile);
            for (flag, value) in job.options.common() {
                // Layouts are images of another transport here.
                let value = match (flag, value.split_once("=oci-layout://")) {
                    ("--build-context", Some((name, place))) => {
                        format!("{name}=docker-image://oci:{place}")
                    }
                    _ => value.to_owned(),
                };
                command.arg(flag).arg(value);
            }
            if freshness == Freshness::Clean {
                command.arg("--no-cache");
            }
            command.args(target.map(|target| format!("--target={target}")));
            command.arg(&job.context);
            command
        };
        job.each_target().into_iter().map(command).collect()
    }
}

impl Drop for Buildah {
    fn drop(&mut self) {
        // It leaves what it worked on mounted.
        for words in [["rm", "--all"], ["umount", "--all"]] {
            let _ = output(self.command().args(words));
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let below = |line: &str| {
            let place = PathBuf::from(line.split(' ').nth(1)?);
            place.starts_with(&self.work).then_some(place)
        };
        for place in mounts.lines().rev().filter_map(below) {
            let _ = output(Command::new("umount").arg("-l").arg(place));
        }
    }
}
