"""kiln pushes to a real registry; skopeo sees the same image, and kiln brings it back."""

import json
import unittest
from pathlib import Path

from support import Kiln, Workspace, require_tools, run
from test_registry import PASSWORD, USER, Registry

DOCKERFILE = """\
FROM scratch AS base
COPY large /large
FROM base
COPY text /etc/text
ENV ANSWER=42
LABEL origin=e2e
"""


class KilnPushes(Workspace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("docker-registry", "skopeo", "umoci", "htpasswd")

    def setUp(self):
        self.dir = self.work / self._testMethodName
        context = self.dir / "context"
        context.mkdir(parents=True)
        (context / "Dockerfile").write_text(DOCKERFILE)
        # Longer than what is sent in one part after a broken connection.
        (context / "large").write_bytes(bytes(range(256)) * (1 << 17))
        (context / "text").write_text("one line\n" * 10_000)
        self.kiln = self.new_kiln("store")

    def new_kiln(self, store: str) -> Kiln:
        kiln = Kiln(self.dir / store)
        kiln.environment["DOCKER_CONFIG"] = str(self.dir / "docker")
        return kiln

    def registry(self, password: str | None = None, name: str = "registry") -> Registry:
        registry = Registry(self.dir / name, password)
        self.addCleanup(registry.close)
        return registry

    def build(self, name: str, *options) -> None:
        self.kiln("build", "--progress=plain", "-t", name, *options, self.dir / "context")

    def push(self, name: str, kiln: Kiln | None = None) -> str:
        """Push; gives the digest that kiln prints."""
        return (kiln or self.kiln)("push", "-q", name).stdout.strip().rpartition("@")[2]

    @staticmethod
    def inspect(name: str, *options) -> dict:
        return json.loads(run("skopeo", "inspect", "--tls-verify=false", *options, f"docker://{name}").stdout)

    def blobs(self, layout: Path) -> set[str]:
        return {path.name for path in (layout / "blobs/sha256").iterdir()}

    def test_push_inspect_pull_back(self):
        name = f"{self.registry().address}/team/app:1"
        self.build(name)
        digest = self.push(name)
        seen = self.inspect(name)
        self.assertEqual(digest, seen["Digest"])
        self.assertEqual(["1"], seen["RepoTags"])
        self.assertEqual({"origin": "e2e"}, seen["Labels"])
        self.assertIn("ANSWER=42", seen["Env"])
        self.assertEqual(digest, self.push(name))

        other = self.new_kiln("other")
        pulled = other("pull", "-q", name).stdout.strip().rpartition("@")[2]
        self.assertEqual(digest, pulled)
        self.assertEqual(digest, self.push(name, other))

        layouts = self.dir / "skopeo", self.dir / "kiln"
        run("skopeo", "copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--preserve-digests",
            f"docker://{name}", f"oci:{layouts[0]}:1")  # fmt: skip
        self.kiln("copy", "-q", name, f"oci-layout://{layouts[1]}:1")
        self.assertEqual(*map(self.blobs, layouts))
        run("umoci", "unpack", "--rootless", "--image", f"{layouts[1]}:1", self.dir / "bundle")
        for file, path in (("large", "large"), ("text", "etc/text")):
            there = (self.dir / "bundle/rootfs" / path).read_bytes()
            self.assertEqual((self.dir / "context" / file).read_bytes(), there)

    def test_login_push_mount_logout(self):
        registry = self.registry(PASSWORD)
        host = registry.address
        name = f"{host}/app:1"
        self.build(name)
        self.assertIn("refuses access", self.kiln("push", "-q", name, check=False).stderr)
        refused = self.kiln(
            "login", host, "-u", USER, "--password-stdin", check=False, stdin=None, input="wrong\n"
        )
        self.assertEqual(1, refused.returncode, refused.stderr)
        self.kiln("login", host, "-u", USER, "--password-stdin", stdin=None, input=PASSWORD)
        digest = self.push(name)
        # From one repository to another of the same registry.
        other = f"{host}/other:2"
        self.kiln("copy", "-q", name, other)
        run("skopeo", "inspect", "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}", f"docker://{other}")
        self.kiln("tag", name, f"{host}/third:3")
        self.assertEqual(digest, self.push(f"{host}/third:3"))
        self.kiln("logout", host)
        self.assertNotEqual(0, self.kiln("pull", "-q", name, check=False).returncode)

    def test_platforms_go_as_one_index_through_an_archive(self):
        name = f"{self.registry().address}/app:1"
        self.build(name, "--platform", "linux/amd64,linux/arm64", "--push")
        index = self.inspect(name, "--raw")
        platforms = {entry["platform"]["architecture"] for entry in index["manifests"]}
        self.assertEqual({"amd64", "arm64"}, platforms)
        archive = self.dir / "app.tar"
        copied = self.kiln("copy", "-q", name, f"oci-archive://{archive}:1").stdout.strip()
        there = json.loads(run("skopeo", "inspect", f"oci-archive:{archive}:1").stdout)
        self.assertIn(there["Digest"], {copied, *(entry["digest"] for entry in index["manifests"])})
        back = f"{self.registry(name='second').address}/back:1"
        self.assertEqual(copied, self.kiln("copy", "-q", f"oci-archive://{archive}", back).stdout.strip())
        self.assertEqual(index, self.inspect(back, "--raw"))


if __name__ == "__main__":
    unittest.main()
