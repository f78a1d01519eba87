"""A headless Chromium, spoken to over WebDriver: pages as they are rendered, not as they are written."""

import json
import re
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from support import free_port, require_tools, stop, wait_for


class Browser:
    """One window; a context manager."""

    def __enter__(self) -> "Browser":
        require_tools("chromedriver", "chromium")
        self.port = free_port()
        self.profile = tempfile.mkdtemp(prefix="kiln-browser-")
        self.driver = subprocess.Popen(
            ["chromedriver", f"--port={self.port}"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            wait_for(self.is_ready, "chromedriver", lambda: self.driver.poll() is None)
            self.session = self.begin()
            # The page that a new window shows is Chromium's own, and asks for a lot.
            self.ask("POST", "/url", {"url": "about:blank"})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_) -> None:
        if hasattr(self, "session"):
            self.ask("DELETE", "")
        stop(self.driver)
        shutil.rmtree(self.profile, ignore_errors=True)

    def is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/status", timeout=5) as answer:
                return json.load(answer)["value"]["ready"]
        except OSError:
            return False

    def begin(self) -> str:
        # Root may not have Chromium's sandbox; containers often have a small /dev/shm.
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        options = {
            "binary": shutil.which("chromium"),
            "args": [*arguments, f"--user-data-dir={self.profile}", "--window-size=1280,900"],
        }
        wanted = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }
        answer = self.send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        return answer["sessionId"]

    def send(self, method: str, path: str, body: dict | None = None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {json.load(error)['value']['message']}") from error

    def ask(self, method: str, path: str, body: dict | None = None):
        return self.send(method, f"/session/{self.session}{path}", body)

    def devtools(self, command: str, **parameters):
        """A command of the DevTools protocol."""
        return self.ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, page: Path) -> None:
        self.ask("POST", "/url", {"url": page.as_uri()})

    def evaluate(self, script: str):
        """The value of the body of a function."""
        return self.ask("POST", "/execute/sync", {"script": script, "args": []})

    def prefer(self, scheme: str) -> None:
        """Make the system light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.devtools("Emulation.setEmulatedMedia", features=features)

    def resize(self, width: int, height: int = 900) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.devtools("Emulation.setDeviceMetricsOverride", **metrics)

    def said(self) -> list[str]:
        """What the page has written to the console since this was asked last."""
        return [entry["message"] for entry in self.ask("POST", "/se/log", {"type": "browser"})]

    def requested(self) -> list[str]:
        """The addresses that were asked for since this was asked last."""
        entries = self.ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [message for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]


def contrast(first: str, second: str) -> float:
    """How two colours stand out against each other, 1 to 21, as WCAG counts it."""

    def luminance(colour: str) -> float:
        parts = [int(number) / 255 for number in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    darker, lighter = sorted((luminance(first), luminance(second)))
    return (lighter + 0.05) / (darker + 0.05)
