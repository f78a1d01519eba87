"""Images of several platforms: out of one call, and joined from machines that each built one."""

import json
import struct
import unittest

from support import Kiln, Workspace, require_tools, run
from test_registry import Registry

DOCKERFILE = """\
FROM scratch
ARG TARGETARCH
COPY hello-$TARGETARCH /hello
RUN ["/hello"]
COPY text /text
ENTRYPOINT ["/hello"]
"""
PLATFORMS = ("amd64", "arm64")


def hello(machine: str) -> bytes:
    """A whole ELF program that writes a line and ends well."""
    text = f"hello from {machine}\n".encode()
    if machine == "amd64":
        # mov eax,1; mov edi,1; lea rsi,[rip+16]; mov edx,N; syscall; mov eax,60; xor edi,edi; syscall
        number, code = 62, bytes.fromhex("b801000000bf01000000488d3510000000ba")
        code += struct.pack("<I", len(text)) + bytes.fromhex("0f05b83c00000031ff0f05")
    else:
        # mov x0,1; adr x1,28; mov x2,N; mov x8,64; svc 0; mov x0,0; mov x8,93; svc 0
        words = (0xD2800020, 0x100000E1, 0xD2800002 | len(text) << 5, 0xD2800808, 0xD4000001,
                 0xD2800000, 0xD2800BA8, 0xD4000001)  # fmt: skip
        number, code = 183, struct.pack("<8I", *words)
    size, at = 120 + len(code) + len(text), 0x400000
    ident = b"\x7fELF\2\1\1" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, number, 1, at + 120, 64, 0, 0, 64, 56, 1, 64, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, at, at, size, size, 0x10000)
    return ident + header + segment + code + text


class Platforms(Workspace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("docker-registry", "skopeo", "qemu-aarch64-static", "qemu-x86_64-static")

    def setUp(self):
        self.dir = self.work / self._testMethodName
        context = self.dir / "context"
        context.mkdir(parents=True)
        (context / "Dockerfile").write_text(DOCKERFILE)
        (context / "text").write_text("one line\n" * 10_000)
        for machine in PLATFORMS:
            program = context / f"hello-{machine}"
            program.write_bytes(hello(machine))
            program.chmod(0o755)
        registry = Registry(self.dir / "registry")
        self.addCleanup(registry.close)
        self.name = f"{registry.address}/team/app"

    def machine(self, name: str) -> Kiln:
        """A machine of its own, as far as kiln is concerned."""
        kiln = Kiln(self.dir / name)
        kiln.environment["DOCKER_CONFIG"] = str(self.dir / "docker")
        kiln.environment["SOURCE_DATE_EPOCH"] = "1700000000"
        return kiln

    def build(self, kiln: Kiln, platforms: str, *options) -> str:
        """Build; gives the digest of what came out."""
        metadata = self.dir / "metadata.json"
        kiln("build", "--progress=plain", "--platform", platforms, "--metadata-file", metadata,
             *options, self.dir / "context")  # fmt: skip
        return json.loads(metadata.read_text())["containerimage.digest"]

    def manifests(self, name: str) -> dict[str, str]:
        """Digests by architecture, as skopeo sees them."""
        index = json.loads(run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}").stdout)
        return {entry["platform"]["architecture"]: entry["digest"] for entry in index["manifests"]}

    def assert_runs(self, name: str) -> None:
        """Each platform's image is pulled and run on an empty machine."""
        for machine in PLATFORMS:
            fresh = self.machine(f"fresh-{machine}")
            fresh("pull", "-q", "--platform", f"linux/{machine}", name)
            self.assertEqual(f"hello from {machine}\n", fresh("run", name).stdout)

    def assert_as_skopeo_copies(self, name: str) -> None:
        """All platforms arrive blob for blob as with skopeo."""
        layouts = self.dir / "skopeo", self.dir / "kiln"
        run("skopeo", "copy", "-q", "--all", "--insecure-policy", "--src-tls-verify=false", "--preserve-digests",
            f"docker://{name}", f"oci:{layouts[0]}:1")  # fmt: skip
        self.machine("copier")("copy", "-q", name, f"oci-layout://{layouts[1]}:1")
        there = [{path.name: path.read_bytes() for path in (layout / "blobs/sha256").iterdir()} for layout in layouts]
        self.assertEqual(there[0], there[1])

    def test_machines_push_by_digest_and_one_joins_them(self):
        digests = {}
        for machine in PLATFORMS:
            output = f"type=registry,name={self.name},push-by-digest=true"
            digests[machine] = self.build(self.machine(machine), f"linux/{machine}", "-o", output)
        tags = f"{self.name}:1", f"{self.name}:latest"
        joined = self.machine("joiner")(
            "index", "create", "-q", "-t", tags[0], "-t", tags[1], "--annotation", "index:team=e2e", *digests.values()
        )
        self.assertEqual(2, len(joined.stdout.splitlines()))
        for tag in tags:
            self.assertEqual(digests, self.manifests(tag))
        shown = self.machine("joiner")("index", "inspect", tags[0]).stdout
        for text in ("linux/amd64", "linux/arm64", "annotation  team=e2e", *digests.values()):
            self.assertIn(text, shown)
        self.assert_as_skopeo_copies(tags[0])
        self.assert_runs(tags[1])
        # The same as from one machine.
        self.build(self.machine("all"), "linux/amd64,linux/arm64", "--push", "-t", f"{self.name}:all")
        self.assertEqual(digests, self.manifests(f"{self.name}:all"))

    def test_one_call_pushes_all_platforms(self):
        tag = f"{self.name}:1"
        digest = self.build(self.machine("builder"), "linux/amd64,linux/arm64", "--push", "-t", tag)
        found = run("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{tag}").stdout
        shown = json.loads(self.machine("builder")("index", "inspect", "--format", "json", tag).stdout)
        self.assertEqual(digest, shown["digest"])
        self.assertEqual(len(found.encode()), shown["size"])
        self.assertEqual(set(PLATFORMS), set(self.manifests(tag)))
        self.assert_as_skopeo_copies(tag)
        self.assert_runs(tag)
        # All of it is pulled under its own digest, and goes elsewhere as it is.
        other = self.machine("other")
        pulled = other("pull", "-q", "--all-platforms", tag).stdout.strip()
        self.assertEqual(f"{tag}@{digest}", pulled)
        other("tag", tag, f"{self.name}-copy:1")
        other("push", "-q", f"{self.name}-copy:1")
        self.assertEqual(self.manifests(tag), self.manifests(f"{self.name}-copy:1"))


if __name__ == "__main__":
    unittest.main()
