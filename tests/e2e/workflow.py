"""Runs the jobs of a GitHub workflow as a runner does, as far as `kiln init` writes them: steps that are
scripts, with their conditions, expressions and environment files. Actions are left out."""

import re
import subprocess
from pathlib import Path


class Context:
    """Values by name, as `github` and `matrix` are; what is not there is null, and so is all below it."""

    def __init__(self, values: dict | None = None):
        self.values = values or {}

    def __getattr__(self, name: str):
        value = self.values.get(name)
        return value if isinstance(value, str | bool | int) else Context(value)

    def __eq__(self, other) -> bool:
        return isinstance(other, Context) and not self.values and not other.values

    def __bool__(self) -> bool:
        return bool(self.values)

    def __str__(self) -> str:
        return ""


class Job:
    """One job on a machine of its own: a directory, an environment, and the contexts of its expressions."""

    def __init__(self, directory: Path, environment: dict, **contexts: dict):
        self.directory, self.environment = directory, dict(environment)
        self.contexts = {name: Context(values) for name, values in contexts.items()}
        self.outcomes: dict[str, dict] = {"kiln": {"outputs": {"cache_hit": "true"}}}
        self.logs: dict[str, str] = {}
        self.failed = False
        for file in ["GITHUB_ENV", "GITHUB_STEP_SUMMARY"]:
            path = directory.parent / f"{directory.name}.{file}"
            path.write_text("")
            self.environment[file] = str(path)

    def value(self, expression: str):
        """The value of an expression. `&&`, `||` and `==` of GitHub are those of Python, by other names."""
        words = expression.replace("&&", " and ").replace("||", " or ").replace("cache-hit", "cache_hit")
        names = {
            **self.contexts,
            "steps": Context(self.outcomes),
            "always": lambda: True,
            "success": lambda: not self.failed,
            "format": lambda text, *values: text.format(*values),
        }
        return eval(re.sub(r"!(?!=)", " not ", words).strip(), {"__builtins__": {}}, names)

    def filled(self, text: str) -> str:
        """A text with its expressions replaced by their values."""
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(self.value(" ".join(found[1].split()))), text, flags=re.DOTALL)

    def run(self, job: dict, common: dict) -> "Job":
        """Run all steps; a step that fails ends the job but for those that want to run always."""
        for step in job["steps"]:
            name = step.get("name", "")
            condition = step.get("if", "success()")
            if "always()" not in condition:
                condition = f"success() and ({condition})"
            wanted = self.value(condition)
            if "run" in step and wanted:
                outcome = self.script(name, step, {**common, **job.get("env", {}), **step.get("env", {})})
            else:
                outcome = "success" if wanted else "skipped"
            if identity := step.get("id"):
                self.outcomes.setdefault(identity, {})["outcome"] = outcome
        return self

    def script(self, name: str, step: dict, variables: dict) -> str:
        environment = {**self.environment, **{key: self.filled(str(value)) for key, value in variables.items()}}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.filled(step["run"])],
            cwd=self.directory, env=environment, text=True, errors="replace", timeout=900,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.logs[name] = done.stdout
        for line in Path(environment["GITHUB_ENV"]).read_text().splitlines():
            key, _, value = line.partition("=")
            self.environment[key] = value
        if done.returncode:
            self.failed = True
            return "failure"
        return "success"

    def said(self) -> str:
        """All that the steps wrote."""
        return "\n".join(f"── {name}\n{log}" for name, log in self.logs.items())
