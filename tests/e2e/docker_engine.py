"""A Docker engine for one test: own data, own socket, always stopped.

It uses no bridge and no firewall rules; containers have the host's network.
"""

import contextlib
import os
import shutil
import ssl
import subprocess
import time
from pathlib import Path

from support import run, skip, stop, unmount_below

AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"


class DockerEngine:
    """dockerd and Debian's docker client below a directory."""

    def __init__(self, work: Path):
        self.work = work
        self.socket = f"unix://{work}/docker.sock"
        # Debian's client builds with the engine's own BuildKit; a newer one may be first in PATH
        self.client = "/usr/bin/docker"

    def __enter__(self) -> "DockerEngine":
        if os.geteuid() != 0:
            skip("Docker's engine needs root")
        if not (shutil.which("dockerd") and os.path.exists(self.client)):
            skip("Docker is not installed (Debian package docker.io)")
        self.work.mkdir(parents=True)
        self.log = (self.work / "dockerd.log").open("wb")
        self.process = subprocess.Popen(
            ["dockerd", "--data-root", self.work / "data", "--exec-root", self.work / "exec",
             "--pidfile", self.work / "pid", "--host", self.socket,
             "--bridge=none", "--iptables=false", "--ip6tables=false"],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True,
        )  # fmt: skip
        end = time.monotonic() + 60
        while self.docker("version", check=False).returncode:
            if self.process.poll() is not None or time.monotonic() > end:
                tail = (self.work / "dockerd.log").read_text(errors="replace").splitlines()[-5:]
                self.__exit__()
                skip("Docker's engine does not start here: " + " | ".join(tail))
            time.sleep(0.1)
        return self

    def __exit__(self, *_) -> None:
        stop(self.process, 60)
        self.log.close()
        unmount_below(self.work)  # what a killed engine may leave
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.work)

    def docker(self, *arguments, **options) -> subprocess.CompletedProcess:
        """Run the client against this engine."""
        return run(self.client, *arguments, env=self.environment(), **options)

    def environment(self) -> dict[str, str]:
        """What makes a client speak to this engine."""
        environment = {**os.environ, "DOCKER_BUILDKIT": "1", "DOCKER_HOST": self.socket,
                       "DOCKER_CONFIG": str(self.work / "config")}  # fmt: skip
        environment.pop("DOCKER_CONTEXT", None)
        return environment

    def load_layout(self, layout: Path, name: str) -> None:
        """Put an image from an OCI layout into the engine."""
        run("skopeo", "copy", "--insecure-policy", "--quiet", "--dest-daemon-host", self.socket,
            f"oci:{layout}:latest", f"docker-daemon:{name}")  # fmt: skip

    def make_image(self, name: str, dockerfile: str, context: Path) -> None:
        """Build a small image from the text of a Dockerfile."""
        file = self.work / "Dockerfile.helper"
        file.write_text(dockerfile)
        self.docker("build", "--quiet", "-f", file, "-t", name, context)

    def load_ares_inputs(self, inputs: Path) -> list[str]:
        """Put the inputs of examples/ares into the engine; gives the build options that name them.

        The base's authorities become this host's: Docker has no way to lend them to a RUN.
        """
        self.load_layout(inputs / "python-base", "ares-debian:latest")
        context = self.work / "authorities"
        context.mkdir()
        shutil.copy(ssl.get_default_verify_paths().cafile or AUTHORITIES, context / "ca.crt")
        text = f"FROM ares-debian\nCOPY ca.crt {AUTHORITIES}\nENV SSL_CERT_FILE={AUTHORITIES}\n"
        self.make_image("ares-python:latest", text, context)
        self.make_image("ares-uv:latest", "FROM scratch\nCOPY uv uvx /\n", inputs / "uv")
        return ["--build-arg", "PYTHON_IMAGE=ares-python", "--build-arg", "UV_IMAGE=ares-uv"]

    def build(self, project: Path, target: str, tag: str, options: list[str]) -> str:
        """Build a target of a Dockerfile, less its syntax line, which would need a registry; gives the
        plain progress."""
        first, rest = (project / "Dockerfile").read_text().split("\n", 1)
        assert first.startswith("# syntax="), first
        file = self.work / "Dockerfile"
        file.write_text(rest)
        return self.docker(
            "build", "--network=host", "--progress=plain", "--file", file, "--target", target,
            "--tag", tag, *options, project,
        ).stderr  # fmt: skip
