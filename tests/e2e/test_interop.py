"""Each output, read by the programs that it is for: they see the same files, and run them.

One image of six layers with what layers can hold: links of both kinds, owners, set-id bits, times,
holes left by deleted files, a directory that took another's place.
"""

import shutil
import tarfile
import unittest
from pathlib import Path

from docker_engine import DockerEngine
from engines import Containerd, Podman
from support import Kiln, Workspace, require_tools, run
from test_registry import Registry

DOCKERFILE = """
FROM scratch
COPY sh /bin/sh
COPY sh /bin/busybox
RUN ["/bin/sh", "-c", "for i in mkdir ln chmod chown rm stat sort find touch mkfifo cat; do busybox ln -s sh /bin/$i; done"]
RUN mkdir -p /data/old/deep /data/gone && echo one > /data/one && ln /data/one /data/hard && ln -s one /data/soft \
    && echo x > /data/old/deep/file && echo y > /data/gone/file && mkfifo /data/pipe && echo "ü" > "/data/ü name" \
    && chown 12345:54321 /data/one && chmod 4755 /data/gone/file && chmod 1777 /data/old
RUN rm -r /data/gone /data/old && mkdir /data/old && echo new > /data/old/file && chmod 2750 /data/old \
    && touch -h -d "2001-02-03 04:05:06" /data/soft
COPY list /
CMD ["/bin/sh", "/list"]
"""

# Sizes and links of directories are the file system's own affair.
LIST = """
find /data | sort | while read -r f; do
    if [ -d "$f" ]; then stat -c '%n|%f|%u|%g|%Y' "$f"; else stat -c '%n|%f|%u|%g|%Y|%s|%h' "$f"; fi
done
cat /data/one /data/old/file
"""

KINDS = ["uncompressed", "gzip", "zstd", "estargz"]


def listing(archive: Path) -> dict[str, tuple]:
    """What a tar file says of each path below /data."""
    with tarfile.open(archive) as tar:
        return {
            member.name: (member.type, member.mode, member.uid, member.gid, member.linkname, member.size)
            for member in tar
            if member.name.startswith("data")
        }


class Interop(Workspace):
    """An image in kiln's store, and what a container of it says when kiln runs it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("skopeo", "umoci", "busybox", "docker-registry")
        cls.kiln = Kiln(cls.work / "store")
        cls.context = cls.work / "context"
        cls.context.mkdir()
        shutil.copy(shutil.which("busybox"), cls.context / "sh")
        (cls.context / "Dockerfile").write_text(DOCKERFILE)
        (cls.context / "list").write_text(LIST)
        registry = Registry(cls.work / "registry")
        cls.addClassCleanup(registry.close)
        cls.pushed = f"{registry.address}/team/interop:1"
        cls.build("--push", "-t", cls.pushed)
        cls.build("-t", "interop")
        cls.expected = cls.kiln("run", "interop").stdout

    @classmethod
    def build(cls, *options):
        return cls.kiln("build", "--progress=plain", *options, cls.context)

    def test_a_container_of_kiln_sees_what_was_made(self):
        lines = self.expected.splitlines()
        self.assertRegex(self.expected, r"(?m)^/data/one\|81a4\|12345\|54321\|\d+\|4\|2$")
        self.assertRegex(self.expected, r"(?m)^/data/old\|45e8\|0\|0\|\d+$")
        self.assertIn("/data/soft|a1ff|0|0|981173106|3|1", lines)
        self.assertEqual(["one", "new"], lines[-2:])
        self.assertNotIn("gone", self.expected)

    def test_docker_runs_what_it_is_given(self):
        with DockerEngine(self.work / "docker") as engine:
            self.kiln.environment |= engine.environment()
            self.build("--load", "-t", "interop:loaded")
            for kind in ["gzip", "uncompressed"]:
                archive = self.work / "docker.tar"
                self.build("-o", f"type=docker,dest={archive},compression={kind}", "-t", f"interop:{kind}")
                engine.docker("load", "-i", archive)
            engine.docker("pull", self.pushed)
            for name in ["interop:loaded", "interop:gzip", "interop:uncompressed", self.pushed]:
                with self.subTest(name):
                    ran = engine.docker("run", "--rm", "--network=host", name)
                    self.assertEqual(self.expected, ran.stdout)

    def test_podman_runs_what_it_is_given(self):
        with Podman(self.work / "podman") as podman:
            self.kiln.environment |= podman.environment
            self.build("-o", "type=podman", "-t", "interop:loaded")
            podman.podman("pull", "-q", "--tls-verify=false", self.pushed)
            names = ["docker.io/library/interop:loaded", self.pushed]
            for kind in KINDS:
                for archive in ["oci", "docker"] if kind != "estargz" else ["oci"]:
                    file, name = self.work / "podman.tar", f"localhost/interop:{kind}-{archive}"
                    self.build("-o", f"type={archive},dest={file},compression={kind}", "-t", name)
                    podman.podman("load", "-q", "-i", file)
                    names.append(name)
            for name in names:
                with self.subTest(name):
                    self.assertEqual(self.expected, podman.said(name))

    def test_containerd_runs_what_it_is_given(self):
        with Containerd(self.work / "containerd") as containerd:
            output = f"type=containerd,address={containerd.socket}"
            for kind in KINDS:
                self.build("-o", f"{output},compression={kind}", "-t", f"interop:{kind}")
            containerd.ctr("images", "pull", "--plain-http", self.pushed)
            for name in [*(f"docker.io/library/interop:{kind}" for kind in KINDS), self.pushed]:
                with self.subTest(name):
                    self.assertEqual(self.expected, containerd.said(name))

    def test_umoci_unpacks_the_files_of_the_tar_output(self):
        files = self.work / "files.tar"
        self.build("-o", f"type=tar,dest={files}")
        expected = listing(files)
        self.assertIn("data/old/file", expected)
        self.assertNotIn("data/gone", expected)
        for kind in KINDS:
            with self.subTest(kind):
                layout = self.work / f"layout-{kind}"
                self.build("-o", f"type=oci,dest={layout},tar=false,compression={kind}", "-t", "interop:1")
                source = f"{layout}:1"
                if kind == "zstd":  # Debian's umoci reads no zstd
                    run("skopeo", "copy", "-q", "--dest-compress-format=gzip", f"oci:{source}", f"oci:{layout}-gzip:1")
                    source = f"{layout}-gzip:1"
                bundle = self.work / f"bundle-{kind}"
                run("umoci", "unpack", "--image", source, bundle)
                packed = self.work / "unpacked.tar"
                run("tar", "-C", bundle / "rootfs", "--numeric-owner", "--sort=name", "-cf", packed, "data")
                self.assertEqual(self.plain(expected), self.plain(listing(packed)))

    @staticmethod
    def plain(files: dict[str, tuple]) -> dict[str, tuple]:
        """Files without the question which of two hard links is the first."""
        linked = {entry[4]: name for name, entry in files.items() if entry[0] == tarfile.LNKTYPE}
        linked |= {name: name for name, entry in files.items() if entry[0] == tarfile.LNKTYPE}
        return {
            name.rstrip("/"): ("linked",) + entry[1:4] if name in linked else entry for name, entry in files.items()
        }

    def test_what_kiln_pulls_is_skopeos_copy_blob_for_blob(self):
        fresh = Kiln(self.work / "fresh")
        fresh("pull", self.pushed)
        ours, theirs = self.work / "ours", self.work / "theirs"
        fresh("copy", "-q", self.pushed, f"oci:{ours}:1")
        run("skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{self.pushed}", f"oci:{theirs}:1")
        blobs = [{path.name: path.read_bytes() for path in (top / "blobs/sha256").iterdir()} for top in (ours, theirs)]
        self.assertEqual(blobs[1], blobs[0])
        pulled = {path.name for path in (fresh.root / "blobs/sha256").iterdir()}
        self.assertLessEqual(blobs[1].keys(), pulled)


if __name__ == "__main__":
    unittest.main()
