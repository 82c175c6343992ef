"""A headless Chromium for tests, spoken to over its debugging pipe: no port, no driver, no further package."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One page. `messages` holds what the console said, `requests` every address that was asked for."""

    def __init__(self, width: int = 1280, height: int = 900, dark: bool = False) -> None:
        assert CHROMIUM is not None
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()
        flags = (*_FLAGS, f"--user-data-dir={self.profile.name}", "about:blank")
        # The browser reads commands from its descriptor 3 and answers on 4.
        script = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "bash", CHROMIUM, *flags],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.count, self.session = b"", 0, ""
        self.messages: list[str] = []
        self.requests: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.view(width, height, dark)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self.session = ""
        self.call("Browser.close")
        self.process.wait(timeout=20)
        os.close(self.to)
        os.close(self.back)
        self.profile.cleanup()

    def view(self, width: int, height: int, dark: bool = False) -> None:
        """Set the window's size and the colour scheme that its user prefers."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> str:
        """Open a file; returns what the page's own scripts say when they have drawn everything: `yes` or `failed`."""
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.evaluate("new Promise(r => document.readyState === 'complete' ? r() : addEventListener('load', r))")
        self.evaluate("window.unweave.ready")
        return self.evaluate("document.documentElement.dataset.ready")

    def evaluate(self, expression: str) -> Any:
        """The value of an expression, awaited where it is a promise."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(json.dumps(answer["exceptionDetails"]))
        return answer["result"].get("value")

    def picture(self, path: Path, whole: bool = True) -> None:
        """A screenshot, of the whole page or of the window."""
        options: dict[str, Any] = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", **options)["data"]))

    def print(self, path: Path) -> None:
        """The page as PDF, as a reader prints it."""
        pdf = self.call("Page.printToPDF", printBackground=False, paperWidth=8.27, paperHeight=11.69)["data"]
        path.write_bytes(base64.b64decode(pdf))

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self.buffer:
            part = os.read(self.back, 1 << 16)
            if not part:
                raise RuntimeError("the browser ended")
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        details = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(details["request"]["url"])
            case "Log.entryAdded":
                self.messages.append(f"{details['entry']['level']}: {details['entry']['text']}")
            case "Runtime.consoleAPICalled":
                self.messages.append(f"{details['type']}: {[argument.get('value') for argument in details['args']]}")
            case "Runtime.exceptionThrown":
                self.messages.append(f"exception: {details['exceptionDetails']['text']}")


def silent(browser: Browser) -> None:
    """Nothing was said on the console and nothing was asked for but the file; what was said before is forgotten."""
    asked = [url for url in browser.requests if not url.startswith(("file:", "data:"))]
    messages = list(browser.messages)
    browser.requests.clear()
    browser.messages.clear()
    assert asked == []
    assert messages == []
