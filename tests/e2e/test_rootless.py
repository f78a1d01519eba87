"""An ordinary user with subordinate ids builds and runs what root does."""

import os
import shutil
import unittest
from pathlib import Path

from support import Workspace, ares_options, copy_ares, kiln_program, prepare, require_tools, run, skip


class OrdinaryUser(Workspace):
    """Root makes a user for the test, gives it copies of kiln and of the inputs, and removes it."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if os.geteuid() != 0:
            skip("only root can make a user")
        require_tools("useradd", "userdel", "runuser", "newuidmap")
        cls.work.chmod(0o755)
        program = Path(shutil.copy(kiln_program(), cls.work / "kiln"))
        program.chmod(0o755)
        inputs = Path(shutil.copytree(prepare(), cls.work / "inputs", ignore=shutil.ignore_patterns("ares")))
        cls.project = copy_ares(cls.work / "ares")
        run("chmod", "-R", "a+rX", inputs, cls.project)
        cls.options = ares_options(inputs)
        cls.user = f"kiln{os.getpid()}"
        run("useradd", "--create-home", "--home-dir", cls.work / "home", cls.user)
        cls.addClassCleanup(run, "userdel", cls.user, check=False)
        for file in ("/etc/subuid", "/etc/subgid"):
            if f"{cls.user}:" not in Path(file).read_text():
                skip(f"useradd gives no subordinate ids here ({file})")

    def kiln(self, *arguments):
        """Run kiln as the user, in the environment of a fresh login."""
        lent = {name: os.environ[name] for name in ("SSL_CERT_FILE", "PATH") if name in os.environ}
        environment = {**lent, "HOME": str(self.work / "home"), "USER": self.user, "LANG": "C.UTF-8"}
        command = ["runuser", "-u", self.user, "--", self.work / "kiln", *arguments]
        return run(*command, env=environment, cwd=self.work / "home")

    def test_builds_and_runs_ares(self):
        self.kiln("build", *self.options, "--target", "production", "--target", "testing", "-t", "ares", self.project)
        self.assertRegex(self.kiln("run", "ares:testing").stdout, r"\d+ passed")
        user = self.kiln("run", "--entrypoint", "id", "ares:production", "-u").stdout
        self.assertEqual("10001", user.strip())

    def test_owners_in_layers_are_those_of_the_image(self):
        """What the user namespace maps must not reach the output."""
        archive = self.work / "home" / "image.tar"
        context = self.work / "owners"
        context.mkdir()
        base = self.options[self.options.index("--build-context") + 3]
        (context / "Dockerfile").write_text(
            "FROM python:3.12-slim\nRUN touch /root-owned /other && chown 1234:5678 /other\n"
        )
        run("chmod", "-R", "a+rX", context)
        self.kiln("build", "--build-context", base, "-o", f"type=tar,dest={archive}", context)
        listing = run("tar", "--numeric-owner", "-tvf", archive).stdout.splitlines()
        owners = {line.split()[-1].removeprefix("./"): line.split()[1] for line in listing}
        self.assertEqual("0/0", owners["root-owned"])
        self.assertEqual("1234/5678", owners["other"])


if __name__ == "__main__":
    unittest.main()
