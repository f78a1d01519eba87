"""kiln build --load into Docker's engine, and Docker's archives."""

import json
import shutil
import unittest

from docker_engine import DockerEngine
from support import Kiln, Workspace, require_tools, run

DOCKERFILE = """
FROM scratch
COPY sh /bin/sh
COPY word /
CMD ["/bin/sh", "-c", "read w < /word; echo $w"]
"""


class Load(Workspace):
    """An engine, a store, and an image of two layers."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("skopeo", "busybox")
        cls.engine = cls.enterClassContext(DockerEngine(cls.work / "docker"))
        cls.kiln = Kiln(cls.work / "store")
        cls.kiln.environment |= cls.engine.environment()

    def build(self, word: str, *options) -> str:
        """The plain log of a build of an image that says a word."""
        context = self.work / "context"
        context.mkdir(exist_ok=True)
        shutil.copy(shutil.which("busybox"), context / "sh")
        (context / "word").write_text(word)
        (context / "Dockerfile").write_text(DOCKERFILE)
        return self.kiln("build", "--progress=plain", *options, context).stderr

    def said(self, name: str) -> str:
        return self.engine.docker("run", "--rm", "--network=host", name).stdout.strip()

    def test_only_what_the_engine_lacks_is_sent(self):
        self.assertIn("sent", self.build("one", "--load", "-t", "app:1"))
        self.assertEqual(self.said("app:1"), "one")
        self.assertIn("nothing was sent", self.build("one", "--load", "-t", "app:1"))
        self.assertIn("nothing was sent", self.build("one", "--load", "-t", "app:again"))
        self.assertEqual(self.said("app:again"), "one")
        self.assertIn("sent 1 of 2 layers", self.build("two", "--load", "-t", "app:1"))
        self.assertEqual(self.said("app:1"), "two")
        self.assertEqual(self.said("app:again"), "one")

    def test_what_docker_saved_is_copied_and_comes_back(self):
        saved, back = self.work / "of-docker.tar", self.work / "back.tar"
        self.build("saved", "--load", "-t", "saved:1")
        self.engine.docker("save", "-o", saved, "saved:1")
        layout = self.work / "layout"
        digest = self.kiln("copy", "-q", f"docker-archive:{saved}", f"oci:{layout}:1").stdout.strip()
        inspected = json.loads(run("skopeo", "inspect", f"oci:{layout}:1").stdout)
        self.assertEqual(inspected["Digest"], digest)
        self.kiln("copy", "-q", f"oci:{layout}:1", f"docker-archive:{back}:back:1")
        self.engine.docker("load", "-i", back)
        self.assertEqual(self.said("back:1"), "saved")

    def test_an_archive_is_the_same_image_for_docker_and_skopeo(self):
        archive, saved = self.work / "app.tar", self.work / "saved.tar"
        self.build("three", "-o", f"type=docker,dest={archive}", "-t", "archived:1")
        self.engine.docker("load", "-i", archive)
        self.assertEqual(self.said("archived:1"), "three")
        self.engine.docker("save", "-o", saved, "archived:1")
        ours, theirs = (
            json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{file}").stdout)
            for file in (archive, saved)
        )
        self.assertEqual(ours, theirs)
        self.assertIn("nothing was sent", self.build("three", "--load", "-t", "archived:1"))


if __name__ == "__main__":
    unittest.main()
