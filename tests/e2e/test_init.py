"""`kiln init` on small projects of each kind: its files work with the tools that they are for."""

import re
import shutil
import subprocess
import unittest
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

from support import REPOSITORY, CommandFailed, Kiln, Workspace, ares_options, prepare, require_tools, run, skip

FLASK = '''from flask import Flask

app = Flask(__name__)


@app.get("/health")
def health():
    return {"status": "ok"}
'''
FLASK_TEST = '''from web import app


def test_health():
    assert app.test_client().get("/health").json == {"status": "ok"}
'''
GREET = '''import typer

app = typer.Typer()


@app.command()
def greet(name: str) -> None:
    print(f"hello {name}")
'''
GREET_TEST = '''import subprocess


def test_greeting():
    assert subprocess.check_output(["greet", "you"], text=True) == "hello you\\n"
'''

PROJECTS = {
    "requirements": {
        "requirements.txt": "flask==3.1.0\ngunicorn==23.0.0\n",
        "web.py": FLASK,
        "tests/test_web.py": FLASK_TEST,
    },
    "poetry": {
        "pyproject.toml": '[tool.poetry]\nname = "web"\nversion = "1"\ndescription = ""\nauthors = []\n'
        '[tool.poetry.dependencies]\npython = "^3.9"\nflask = "*"\n'
        '[tool.poetry.group.dev.dependencies]\npytest = "*"\n'
        '[build-system]\nrequires = ["poetry-core"]\nbuild-backend = "poetry.core.masonry.api"\n',
        "web/__init__.py": FLASK,
        "tests/test_web.py": FLASK_TEST,
    },
    "pyproject": {
        "pyproject.toml": '[project]\nname = "greet"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["typer"]\n'
        '[project.scripts]\ngreet = "greet:app"\n[project.optional-dependencies]\ntest = ["pytest"]\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n',
        "src/greet/__init__.py": GREET,
        "tests/test_greet.py": GREET_TEST,
    },
}  # fmt: skip


class InitWritesWhatWorks(Workspace):
    """One store for all; each kind of project is made, built and tested once."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kiln = Kiln(cls.work / "store")
        cls.inputs = prepare()
        loader = SourceFileLoader("prepare_ares", str(REPOSITORY / "scripts" / "prepare-ares"))
        script = module_from_spec(spec_from_loader("prepare_ares", loader))
        loader.exec_module(script)
        cls.uv_environment = script.uv_environment()

    def uvx(self, *arguments, **options) -> subprocess.CompletedProcess:
        return run(self.inputs / "uv" / "uvx", *arguments, env=self.uv_environment, **options)

    def make_project(self, name: str) -> Path:
        directory = self.work / name
        shutil.rmtree(directory, ignore_errors=True)
        for path, text in PROJECTS[name].items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if name == "poetry":
            self.lock_with_poetry(directory)
        self.kiln("init", directory)
        return directory

    def lock_with_poetry(self, directory: Path) -> None:
        try:
            self.uvx("poetry", "lock", "--quiet", cwd=directory)
        except CommandFailed as failure:  # Poetry asks indexes in ways that not all of them answer
            skip(f"Poetry cannot lock here: {str(failure).splitlines()[-1]}")

    def check(self, name: str) -> Path:
        """Build all stages, and run the tests in their image."""
        directory = self.make_project(name)
        stages = re.findall(r"^FROM .* AS (\S+)$", (directory / "Dockerfile").read_text(), re.MULTILINE)
        targets = [word for stage in stages if stage != "uv" for word in ("--target", stage)]
        self.kiln("build", *ares_options(self.inputs), *targets, "-t", name, directory)
        done = self.kiln("run", f"{name}:testing")
        self.assertRegex(done.stdout, r"1 passed")
        again = self.kiln("init", directory).stdout
        self.assertNotRegex(again, "wrote|kept|replaced")
        return directory

    def test_requirements(self):
        self.check("requirements")
        done = self.kiln("run", "requirements:production", "gunicorn", "--check-config", "web:app")
        self.assertEqual("", done.stdout)

    def test_poetry(self):
        self.check("poetry")

    def test_pyproject(self):
        self.check("pyproject")
        done = self.kiln("run", "pyproject:production", "world")
        self.assertEqual("hello world\n", done.stdout)

    def test_files_satisfy_their_tools(self):
        schemas = {
            ".github/workflows/docker-build-cache.yml": "vendor.github-workflows",
            ".gitlab-ci.yml": "vendor.gitlab-ci",
            "docker-compose.yml": "vendor.compose-spec",
            "docker-compose.buildkit.yml": "vendor.compose-spec",
        }
        for name in ["requirements", "pyproject", "ares"]:
            directory = self.inputs / "ares" if name == "ares" else self.make_project(name)
            for file, schema in schemas.items():
                with self.subTest(project=name, file=file):
                    self.uvx("check-jsonschema", "--builtin-schema", schema, directory / file)
            for target in re.findall(r"^(docker-[a-z-]+):", (directory / "Makefile").read_text(), re.MULTILINE):
                with self.subTest(project=name, target=target):
                    run("make", "-n", target, "IMAGE=registry.example/x", cwd=directory)
            self.kiln("check", directory)

    def test_compose_reads_its_file(self):
        require_tools("docker-compose")
        for name in ["requirements", "pyproject", "ares"]:
            directory = self.inputs / "ares" if name == "ares" else self.make_project(name)
            with self.subTest(project=name):
                run("docker-compose", "-f", directory / "docker-compose.yml", "config", "-q")


if __name__ == "__main__":
    unittest.main()
