"""The Dockerfile of examples/ares with Docker's BuildKit: it builds there, and kiln builds the same."""

import json
import unittest

from bundle import Bundle, differences
from docker_engine import DockerEngine
from plain_log import steps_that_ran
from support import (
    STAGES, Kiln, Workspace, ares_options, copy_ares, edit_source, free_port, prepare,
    require_tools, run,
)  # fmt: skip


class DockerBuildsAres(Workspace):
    """Debian's Docker knows neither named contexts nor this syntax line without a registry, so it
    gets base and uv as local images through the Dockerfile's ARGs, and a copy without the line."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("skopeo", "umoci", "runc")
        cls.engine = cls.enterClassContext(DockerEngine(cls.work / "docker"))
        cls.project = copy_ares(cls.work / "ares")
        cls.options = cls.engine.load_ares_inputs(prepare())
        for stage in STAGES:
            cls.engine.build(cls.project, stage, f"ares:{stage}", cls.options)

    def unpack(self, stage: str, name: str) -> Bundle:
        """What Docker built, for independent tools."""
        layout = self.work / f"layout-{name}"
        run("skopeo", "copy", "--insecure-policy", "--quiet", "--src-daemon-host", self.engine.socket,
            f"docker-daemon:ares:{stage}", f"oci:{layout}:{stage}")  # fmt: skip
        return Bundle(layout, stage, self.work / f"bundle-{name}")

    def test_testing_image_passes(self):
        out = self.engine.docker("run", "--rm", "--network=host", "ares:testing").stdout
        self.assertRegex(out, r"\d+ passed")

    def test_an_edit_runs_one_step_and_copies_its_result(self):
        before = (self.project / "src/ares/__init__.py").read_bytes()
        self.addCleanup((self.project / "src/ares/__init__.py").write_bytes, before)
        edit_source(self.project)
        log = self.engine.build(self.project, "production", "ares-edited", self.options)
        self.assertEqual([("app", "RUN"), ("production", "COPY")], steps_that_ran(log))

    def test_production_runs_under_runc(self):
        bundle = self.unpack("production", "run")
        answer = bundle.serve(free_port())
        self.assertEqual("ok", answer["status"])

    def test_kiln_builds_the_same_production_image(self):
        kiln = Kiln(self.work / "kiln")
        archive = self.work / "production.tar"
        kiln("build", *ares_options(prepare()), "--target", "production",
             "-o", f"type=oci,dest={archive}", self.project)  # fmt: skip
        layout = self.work / "layout-kiln"
        run("skopeo", "copy", "--insecure-policy", "--quiet", f"oci-archive:{archive}", f"oci:{layout}:production")
        mine = Bundle(layout, "production", self.work / "bundle-kiln")
        theirs = self.unpack("production", "docker")
        self.assertEqual(theirs.packages(), mine.packages())
        for top in ("app", "var/lib/ares", "etc/apt", "usr/bin", "usr/local"):
            with self.subTest(top=top):
                self.assertEqual([], differences(theirs.tree(top), mine.tree(top)))
        # Docker's own word: on its way into an OCI layout skopeo drops the health check
        said = self.engine.docker("image", "inspect", "ares:production").stdout
        config = json.loads(said)[0]["Config"]
        for key in ("User", "WorkingDir", "Entrypoint", "Cmd", "ExposedPorts", "Healthcheck", "Labels"):
            with self.subTest(key=key):
                self.assertEqual(config[key], mine.image_config.get(key))
        # the one variable that load_ares_inputs added
        env = [entry for entry in config["Env"] if not entry.startswith("SSL_CERT_FILE=")]
        self.assertEqual(env, mine.image_config["Env"])


if __name__ == "__main__":
    unittest.main()
