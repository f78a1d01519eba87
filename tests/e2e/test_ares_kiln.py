"""kiln builds all nine stages of examples/ares and runs them; other tools agree on what they are."""

import json
import unittest

from bundle import Bundle
from plain_log import read_steps, steps_that_ran
from support import (
    STAGES, Kiln, Workspace, ares_options, copy_ares, edit_source, free_port, poll_health,
    prepare, require_tools, run, stop,
)  # fmt: skip


class KilnBuildsAres(Workspace):
    """One build of everything, then a look at each side of it. Tests share the store."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kiln = Kiln(cls.work / "store")
        cls.inputs = prepare()
        cls.project = copy_ares(cls.work / "ares")
        cls.first, _ = cls.build_all("ares")

    @classmethod
    def build_all(cls, repository: str) -> tuple[dict, str]:
        """Build all nine in one run; gives the metadata and the plain progress."""
        metadata = cls.work / "metadata.json"
        targets = [word for stage in STAGES for word in ("--target", stage)]
        done = cls.kiln("build", *ares_options(cls.inputs), *targets, "-t", repository,
                        "--metadata-file", metadata, cls.project)  # fmt: skip
        return json.loads(metadata.read_text()), done.stdout + done.stderr

    def export(self, name: str) -> Bundle:
        """Build production as an OCI archive and unpack it with other tools."""
        archive, layout = self.work / f"{name}.tar", self.work / f"{name}.layout"
        self.kiln("build", *ares_options(self.inputs), "--target", "production",
                  "-o", f"type=oci,dest={archive}", self.project)  # fmt: skip
        run("skopeo", "inspect", "--raw", f"oci-archive:{archive}")
        run("skopeo", "copy", "--insecure-policy", "--quiet", f"oci-archive:{archive}", f"oci:{layout}:x")
        return Bundle(layout, "x", self.work / f"{name}.bundle")

    def test_every_target_is_an_image_of_its_own(self):
        for stage in STAGES:
            with self.subTest(stage=stage):
                self.kiln("inspect", f"ares:{stage}")

    def test_a_second_build_is_fully_cached(self):
        second, log = self.build_all("ares")
        self.assertEqual(set(STAGES), set(second))
        for stage in STAGES:
            with self.subTest(stage=stage):
                self.assertEqual(second[stage]["kiln"]["steps"], second[stage]["kiln"]["cached"])
                digest = "containerimage.digest"
                self.assertEqual(self.first[stage][digest], second[stage][digest])
        self.assertGreater(len(read_steps(log)), 10, log)
        self.assertEqual([], steps_that_ran(log))

    def test_an_edit_runs_only_what_reads_the_source(self):
        file = self.project / "src/ares/__init__.py"
        self.addCleanup(file.write_bytes, file.read_bytes())
        version = edit_source(self.project)
        _, log = self.build_all("ares-edited")
        expected = [
            ("app", "RUN"),
            ("production", "COPY"),
            ("testing", "COPY"),  # the same step as one of development
            ("testing", "COPY"),
        ]
        self.assertEqual(expected, steps_that_ran(log), log)
        with (self.work / "edited.log").open("w+") as log:
            self.assertEqual(version, self.ask_health("ares-edited:production", log)["version"])

    def test_an_installation_with_the_same_outcome_ends_there(self):
        """A comment in pyproject.toml: uv runs again, writes the same, and production stays."""
        file = self.project / "pyproject.toml"
        self.addCleanup(file.write_bytes, file.read_bytes())
        with file.open("a") as text:
            text.write("# a comment\n")
        metadata, log = self.build_all("ares-comment")
        ran = steps_that_ran(log)
        for stage in ("core-deps", "dev-deps", "app"):
            self.assertIn((stage, "RUN"), ran, log)
        unaffected = {"base", "production", "celery-worker", "celery-beat"}
        self.assertEqual([], [step for step in ran if step[0] in unaffected], log)
        digest = "containerimage.digest"
        self.assertEqual(self.first["production"][digest], metadata["production"][digest])

    def test_the_tests_in_the_testing_image_pass(self):
        done = self.kiln("run", "ares:testing")
        self.assertRegex(done.stdout + done.stderr, r"\d+ passed")

    def test_kiln_run_serves_production(self):
        with (self.work / "run.log").open("w+") as log:
            self.assertEqual("ok", self.ask_health("ares:production", log)["status"])

    def ask_health(self, image: str, log) -> dict:
        """Start an image with `kiln run`, wait for its health, stop it."""
        port = free_port()
        service = self.kiln.start("run", "-e", f"ARES_PORT={port}", image, log=log)
        try:
            return poll_health(port, lambda: service.poll() is None)
        except AssertionError as error:
            log.seek(0)
            raise AssertionError(f"{error}\n{log.read()[-3000:]}") from None
        finally:
            stop(service)

    def test_production_runs_under_runc_and_holds_no_tools(self):
        require_tools("skopeo", "umoci", "runc")
        bundle = self.export("production")
        config = bundle.image_config
        self.assertEqual("appuser", config["User"])
        self.assertEqual({"8000/tcp": {}}, config["ExposedPorts"])
        self.assertEqual(["CMD", "python", "-m", "ares.healthcheck"], config["Healthcheck"]["Test"])
        self.assertEqual(["tini", "--"], config["Entrypoint"])
        for tool in ("bin/uv", "bin/uvx", "usr/bin/gcc", "usr/bin/make", "app/src", "app/.venv/bin/pytest"):
            with self.subTest(tool=tool):
                self.assertFalse((bundle.rootfs / tool).exists())
        self.assertIn("tini", " ".join(bundle.packages()))
        self.assertEqual("ok", bundle.serve(free_port())["status"])

    def test_nothing_of_the_host_stays_in_the_image(self):
        require_tools("skopeo", "umoci")
        bundle = self.export("clean")
        self.assertFalse([e for e in bundle.image_config["Env"] if e.startswith("SSL_CERT_FILE=")])
        self.assertEqual([], [p for p in bundle.tree("var/cache") if "/uv" in p or p.endswith(".deb")])
        for path in ("app/uv.lock", "app/pyproject.toml"):
            self.assertFalse((bundle.rootfs / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
