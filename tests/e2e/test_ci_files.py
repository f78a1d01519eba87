"""The CI files of `kiln init` at work: their jobs build, test, measure and push, each on an empty store."""

import json
import os
import shutil
import unittest
from pathlib import Path
from string import Template

from support import Kiln, Workspace, prepare, require_tools, run
from test_init import FLASK, FLASK_TEST, uv_environment
from test_registry import Registry
from workflow import Job

FILES = {"requirements.txt": "flask==3.1.0\ngunicorn==23.0.0\n", "web.py": FLASK, "tests/test_web.py": FLASK_TEST}
AS_JSON = "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)"


class CiFiles(Workspace):
    """A project, and a registry in place of the hosts': its own images, and the base images' mirror."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        require_tools("docker-registry", "skopeo")
        cls.inputs = prepare()
        cls.registry = Registry(cls.work / "registry")
        cls.addClassCleanup(cls.registry.close)
        cls.kiln = Kiln(cls.work / "store")
        cls.push_bases()
        cls.project = cls.work / "project"
        for path, text in FILES.items():
            file = cls.project / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        cls.kiln("init", cls.project)
        cls.workflow = cls.read(".github/workflows/docker-build-cache.yml", "ghcr.io")

    @classmethod
    def push_bases(cls) -> None:
        """What the Dockerfile is built from, into the registry."""
        cls.registry.push(cls.inputs / "python-base", "library/python:3.12-slim")
        context = cls.work / "uv"
        shutil.copytree(cls.inputs / "uv", context)
        (context / "Dockerfile").write_text("FROM scratch\nCOPY uv uvx /\n")
        cls.kiln("build", "-q", "-t", f"{cls.registry.address}/astral/uv:0.13", "--push", context)

    @classmethod
    def read(cls, name: str, host: str) -> dict:
        """A file of YAML, with the registry in place of a host."""
        text = (cls.project / name).read_text().replace(host, cls.registry.address)
        file = cls.work / "read.yml"
        file.write_text(text)
        uvx = cls.inputs / "uv" / "uvx"
        done = run(uvx, "--with", "pyyaml", "python", "-c", AS_JSON, file, env=uv_environment())
        return json.loads(done.stdout)

    def machine(self) -> tuple[Path, dict]:
        """A checkout and the environment of a machine that has seen no build."""
        top = self.work / f"{self._testMethodName}-{len(list(self.work.iterdir()))}"
        shutil.copytree(self.project, top / "checkout")
        (top / "bin").mkdir()
        (top / "bin" / "kiln").symlink_to(self.kiln.program)
        # The machine is the tests' own: nothing of it is changed.
        (top / "bin" / "sudo").write_text("#!/bin/sh\n")
        (top / "bin" / "sudo").chmod(0o755)
        settings = top / ".config" / "kiln" / "kiln.toml"
        settings.parent.mkdir(parents=True)
        address = self.registry.address
        settings.write_text(f'[registry."docker.io"]\nmirrors = ["{address}"]\n[registry."{address}"]\nhttp = true\n')
        environment = {
            **os.environ, "HOME": str(top), "PATH": f"{top}/bin:{os.environ['PATH']}", "KILN_ROOT": str(top / "store"),
            "KILN_HOST_CA": "1", "CI": "true",
        }  # fmt: skip
        environment.pop("XDG_CONFIG_HOME", None)
        return top / "checkout", environment

    def job(self, name: str, arch: str, event: str, *, branch: str = "main", fork: bool = False) -> Job:
        """A job of the workflow that an event starts."""
        directory, environment = self.machine()
        sha = "0a1b2c3d" * 5
        environment |= {"GITHUB_REPOSITORY": "Me/Shop", "GITHUB_SHA": sha, "GITHUB_ACTOR": "me"}
        github = {"event_name": event, "ref_name": branch, "repository": "Me/Shop", "event": {"repository": {"default_branch": "main"}}}
        if event == "pull_request":
            head = {"repo": {"full_name": "You/Shop" if fork else "Me/Shop"}}
            github |= {"ref_name": "7/merge"}
            github["event"]["pull_request"] = {"number": 7, "head": head}
        contexts = {"github": github, "matrix": {"arch": arch}, "vars": {}, "secrets": {"GITHUB_TOKEN": "token"}}
        job = Job(directory, environment, **contexts)
        if event != "push":
            (directory / "web.py").write_text(FLASK + "# edited\n")
        return job.run(self.workflow["jobs"][name], self.workflow.get("env", {}))

    def tags(self, repository: str = "me/shop") -> dict[str, str]:
        """The tags of a repository of the registry, with what they stand for."""
        name = f"docker://{self.registry.address}/{repository}"
        listed = run("skopeo", "list-tags", "--tls-verify=false", name, check=False)
        tags = json.loads(listed.stdout)["Tags"] if listed.returncode == 0 else []
        inspect = lambda tag: run("skopeo", "inspect", "--raw", "--tls-verify=false", f"{name}:{tag}").stdout
        return {tag: inspect(tag) for tag in tags}

    def test_the_workflow_of_github(self):
        sha = "0a1b2c3d" * 5
        first = self.job("build", "amd64", "push")
        self.assertFalse(first.failed, first.said())
        self.assertIn("1 passed", first.logs["Test"])
        pushed = self.tags()
        self.assertEqual(set(pushed), {"cache-main-amd64", f"{sha}-production-amd64"})
        self.assertIn("## Build performance", Path(first.environment["GITHUB_STEP_SUMMARY"]).read_text())
        self.assertIn("<!doctype html>", (first.directory / "report.html").read_text())
        self.assertEqual(1, len((first.directory / "builds.jsonl").read_text().splitlines()))

        with self.subTest("a pull request reads the cache of main, and changes nothing that main reads"):
            request = self.job("build", "amd64", "pull_request")
            self.assertFalse(request.failed, request.said())
            self.assertRegex(request.logs["Build"], r"\[core-deps[^\n]*\n(#\d+ [^\n]*\n)*?#\d+ CACHED")
            self.assertEqual({**pushed, "cache-pr-7-amd64": self.tags()["cache-pr-7-amd64"]}, self.tags())
        with self.subTest("a pull request from another repository writes nothing"):
            before = self.tags()
            foreign = self.job("build", "amd64", "pull_request", fork=True)
            self.assertFalse(foreign.failed, foreign.said())
            self.assertEqual(before, self.tags())
        with self.subTest("another branch has a cache of its own"):
            branch = self.job("build", "amd64", "workflow_dispatch", branch="feature/New thing")
            self.assertFalse(branch.failed, branch.said())
            self.assertEqual(set(self.tags()) - set(before), {"cache-branch-feature-New-thing-amd64"})
        with self.subTest("both platforms become one name"):
            self.push_for_arm64(f"me/shop:{sha}-production-arm64")
            publish = self.job("publish", "amd64", "push")
            self.assertFalse(publish.failed, publish.said())
            index = json.loads(self.tags()["production"])
            platforms = [image["platform"]["architecture"] for image in index["manifests"]]
            self.assertEqual(platforms, ["amd64", "arm64"])

    def test_the_job_of_gitlab(self):
        """Its script as it is, after the part that installs kiln; the store lies in the checkout."""
        file = self.read(".gitlab-ci.yml", "no host")
        directory, environment = self.machine()
        address, sha = self.registry.address, "1b2c3d4e" * 5
        environment |= {
            "CI_REGISTRY": address, "CI_REGISTRY_IMAGE": f"{address}/me/lab", "CI_PROJECT_DIR": str(directory),
            "CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main", "CI_COMMIT_SHA": sha, "ARCH": "amd64",
            "CI_REGISTRY_USER": "me", "CI_REGISTRY_PASSWORD": "token", "SCOPE": "main",
        }  # fmt: skip
        for name, value in file["variables"].items():
            environment[name] = Template(value).substitute(environment)
        lines = [file[".kiln"]["before_script"][-1], *file["build"]["script"], *file["build"]["after_script"]]
        run("bash", "-eo", "pipefail", "-c", "\n".join(lines), cwd=directory, env=environment)
        self.assertEqual(set(self.tags("me/lab")), {"cache-main-amd64", f"{sha}-production-amd64"})
        self.assertIn("<!doctype html>", (directory / "report.html").read_text())
        copied = run("kiln", "run", f"{address}/me/lab:testing", "ls", "-A", "/app", cwd=directory, env=environment)
        self.assertIn("web.py", copied.stdout)
        self.assertNotIn(".kiln", copied.stdout)

    def push_for_arm64(self, name: str) -> None:
        context = self.work / "arm64"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
        self.kiln("build", "-q", "--platform=linux/arm64", "-t", f"{self.registry.address}/{name}", "--push", context)


if __name__ == "__main__":
    unittest.main()
