"""Programs that run images, each for one test: own data, own socket, always stopped.

`docker_engine` has Docker's.
"""

import os
import subprocess
from pathlib import Path

from support import require_tools, run, skip, stop, unmount_below, wait_for


class Containerd:
    """containerd without plugins of Kubernetes, and its own client."""

    def __init__(self, work: Path):
        self.work = work
        self.socket = work / "containerd.sock"

    def __enter__(self) -> "Containerd":
        if os.geteuid() != 0:
            skip("containerd needs root")
        require_tools("containerd", "ctr")
        self.work.mkdir(parents=True)
        with (self.work / "log").open("wb") as log:
            self.process = subprocess.Popen(
                ["containerd", "--root", self.work / "root", "--state", self.work / "state", "--address", self.socket],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_for(
            lambda: self.ctr("version", check=False).returncode == 0,
            "containerd answers", lambda: self.process.poll() is None,
        )  # fmt: skip
        return self

    def __exit__(self, *_) -> None:
        stop(self.process, 60)
        unmount_below(self.work)

    def ctr(self, *arguments, **options) -> subprocess.CompletedProcess:
        """Run the client against this containerd."""
        return run("ctr", "--address", self.socket, *arguments, **options)

    def said(self, image: str, *command) -> str:
        """What a container says before it ends."""
        return self.ctr("run", "--rm", "--net-host", image, "interop", *command).stdout


class Podman:
    """podman with a storage of its own; kiln finds it by the same variable."""

    def __init__(self, work: Path):
        self.work = work
        self.environment = {"CONTAINERS_STORAGE_CONF": str(work / "storage.conf")}

    def __enter__(self) -> "Podman":
        if os.geteuid() != 0:
            skip("kiln starts the podman of root alone")
        require_tools("podman")
        self.work.mkdir(parents=True)
        (self.work / "storage.conf").write_text(
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self.work}/graph"\nrunroot = "{self.work}/run"\n'
        )
        return self

    def __exit__(self, *_) -> None:
        unmount_below(self.work)

    def podman(self, *arguments, **options) -> subprocess.CompletedProcess:
        """Run podman on this storage."""
        return run("podman", *arguments, env={**os.environ, **self.environment}, **options)

    def said(self, image: str, *command) -> str:
        """What a container says before it ends. Its limits are named: podman's own may be above
        what this machine allows."""
        limits = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"]
        return self.podman("run", "--rm", "--network=host", *limits, image, *command).stdout
