"""Look at an image with tools that kiln has no part in: skopeo, umoci and runc."""

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path

from support import poll_health, run, stop


class Bundle:
    """An image of an OCI layout, unpacked for runc."""

    def __init__(self, layout: Path, tag: str, to: Path):
        self.path = to
        # --raw: skopeo's own idea of a config has no health check
        config = run("skopeo", "inspect", "--raw", "--config", f"oci:{layout}:{tag}").stdout
        self.image_config = json.loads(config)["config"]
        run("umoci", "unpack", "--image", f"{layout}:{tag}", to)
        self.rootfs = to / "rootfs"

    def serve(self, port: int) -> dict:
        """Start the service under runc on the host's network; gives what /health answers."""
        file = self.path / "config.json"
        config = json.loads(file.read_text())
        namespaces = config["linux"]["namespaces"]
        config["linux"]["namespaces"] = [n for n in namespaces if n["type"] != "network"]
        config["process"]["terminal"] = False
        config["process"]["env"].append(f"ARES_PORT={port}")
        config["root"]["readonly"] = False
        file.write_text(json.dumps(config))
        name = f"ares-{os.getpid()}-{port}"
        with (self.path / "log").open("w+") as log:
            service = subprocess.Popen(
                ["runc", "--root", self.path / "state", "run", "--bundle", self.path, name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
            try:
                return poll_health(port, lambda: service.poll() is None)
            except AssertionError as error:
                log.seek(0)
                raise AssertionError(f"{error}\n{log.read()[-3000:]}") from None
            finally:
                stop(service)
                run("runc", "--root", self.path / "state", "delete", "--force", name, check=False)

    def packages(self) -> list[str]:
        """The installed Debian packages with their versions."""
        found = []
        for block in (self.rootfs / "var/lib/dpkg/status").read_text().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
            if fields.get("Status") == "install ok installed":
                found.append(f"{fields['Package']} {fields['Version']}")
        return sorted(found)

    def tree(self, *below: str) -> dict[str, str]:
        """Path to type, mode, owner and content of all below some directories.

        Of compiled Python only the path counts: marshal does not promise equal bytes.
        """
        seen = {}
        for top in below:
            for directory, names, files in os.walk(self.rootfs / top):
                for name in [*names, *files]:
                    path = Path(directory, name)
                    seen[str(path.relative_to(self.rootfs))] = describe(path)
        return seen


def differences(want: dict[str, str], got: dict[str, str]) -> list[str]:
    """Two trees' differences, one a line; equal trees have none."""
    paths = sorted(want.keys() | got.keys())
    return [
        f"{path}: {want.get(path, 'absent')} / {got.get(path, 'absent')}"
        for path in paths
        if want.get(path) != got.get(path)
    ]


def describe(path: Path) -> str:
    """One line about a file: type and mode, owner, content."""
    status = path.lstat()
    if path.is_symlink():
        content = f"-> {os.readlink(path)}"
    elif stat.S_ISREG(status.st_mode) and path.suffix != ".pyc":
        content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    else:
        content = ""
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {content}"
