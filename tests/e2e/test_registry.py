"""kiln pulls its base from a registry on loopback: plain HTTP, with and without a password."""

import base64
import json
import subprocess
import unittest
import urllib.error
import urllib.request
from pathlib import Path

from support import Kiln, Workspace, free_port, prepare, require_tools, run, stop, wait_for

USER, PASSWORD = "ares", "a secret: with a colon"


class Registry:
    """Debian's docker-registry on a free port, with a password or without."""

    def __init__(self, work: Path, password: str | None = None):
        work.mkdir()
        self.address = f"localhost:{free_port()}"
        lines = [
            "version: 0.1",
            "log: {level: warn}",
            f"storage: {{filesystem: {{rootdirectory: {work / 'data'}}}}}",
            f"http: {{addr: '127.0.0.1:{self.address.rpartition(':')[2]}'}}",
        ]
        self.credentials = []
        if password:
            passwords = run("htpasswd", "-Bbn", USER, password).stdout
            (work / "htpasswd").write_text(passwords)
            lines.append(f"auth: {{htpasswd: {{realm: tests, path: {work / 'htpasswd'}}}}}")
            self.credentials = ["--dest-creds", f"{USER}:{password}"]
        config = work / "config.yml"
        config.write_text("\n".join(lines))
        self.log = (work / "log").open("wb")
        self.process = subprocess.Popen(
            ["docker-registry", "serve", config], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        wait_for(self.answers, "docker-registry", lambda: self.process.poll() is None)

    def answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    def push(self, layout: Path, name: str) -> str:
        """Push an image out of an OCI layout; gives its reference."""
        reference = f"{self.address}/{name}"
        run("skopeo", "copy", "--insecure-policy", "--quiet", "--dest-tls-verify=false", *self.credentials,
            f"oci:{layout}:latest", f"docker://{reference}")  # fmt: skip
        return reference

    def close(self) -> None:
        stop(self.process)
        self.log.close()


class KilnPullsItsBase(Workspace):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("docker-registry", "skopeo", "htpasswd")
        cls.layout = prepare() / "python-base"

    def setUp(self):
        self.dir = self.work / self._testMethodName
        self.dir.mkdir()
        (self.dir / "context").mkdir()

    def start(self, password: str | None = None) -> str:
        """Start a registry that has the Python base; gives the base's reference."""
        registry = Registry(self.dir / "registry", password)
        self.addCleanup(registry.close)
        return registry.push(self.layout, "python:3.12-slim")

    def build(self, base: str, credentials: dict | None = None, **options) -> subprocess.CompletedProcess:
        """Build two lines on a base, with nothing but these credentials."""
        context = self.dir / "context"
        (context / "Dockerfile").write_text(f"FROM {base}\nRUN python3 -c 'print(6 * 7)' > /answer\n")
        config = self.dir / "docker"
        config.mkdir(exist_ok=True)
        (config / "config.json").write_text(json.dumps({"auths": credentials or {}}))
        kiln = Kiln(self.dir / "store")
        kiln.environment["DOCKER_CONFIG"] = str(config)
        output = self.dir / "out"
        done = kiln("build", "--progress=plain", "-o", f"type=local,dest={output}", context, **options)
        if done.returncode == 0:
            self.assertEqual("42\n", (output / "answer").read_text())
        return done

    @staticmethod
    def basic(host: str, password: str) -> dict:
        token = base64.b64encode(f"{USER}:{password}".encode()).decode()
        return {host: {"auth": token}}

    def test_plain_http_on_loopback(self):
        self.build(self.start())

    def test_by_digest(self):
        reference = self.start()
        digest = json.loads(run("skopeo", "inspect", "--tls-verify=false", f"docker://{reference}").stdout)["Digest"]
        self.build(f"{reference.rpartition(':')[0]}@{digest}")

    def test_basic_auth_from_dockers_config(self):
        reference = self.start(PASSWORD)
        self.build(reference, self.basic(reference.partition("/")[0], PASSWORD))

    def test_a_wrong_password_is_refused_and_not_shown(self):
        reference = self.start(PASSWORD)
        done = self.build(reference, self.basic(reference.partition("/")[0], "wrong-password"), check=False)
        said = done.stdout + done.stderr
        self.assertNotEqual(0, done.returncode)
        self.assertIn(reference, said)
        self.assertRegex(said, r"(?i)401|unauthorized|denied|credentials|refuses access")
        self.assertNotIn("wrong-password", said)

    def test_a_missing_tag_names_the_reference(self):
        reference = self.start().replace("3.12-slim", "no-such-tag")
        done = self.build(reference, check=False)
        self.assertNotEqual(0, done.returncode)
        self.assertIn(reference, done.stdout + done.stderr)

    def test_a_fully_cached_build_needs_no_registry(self):
        registry = Registry(self.dir / "registry")
        self.addCleanup(registry.close)
        reference = registry.push(self.layout, "python:3.12-slim")
        self.build(reference)
        registry.close()
        self.build(reference)


if __name__ == "__main__":
    unittest.main()
