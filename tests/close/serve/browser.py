"""Chromium without a window, driven over its own protocol by pipes: what a person does, and what they see."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asking import PATIENCE, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
OFF = "background-networking component-update sync gpu quic dev-shm-usage extensions breakpad default-apps"
ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


class Tab:
    """A page, and messages to and from the browser that shows it."""

    def __init__(self, out: int, back: int) -> None:
        self._out, self._back = out, back
        self._numbers, self._waiting = itertools.count(1), b""
        self._session: str | None = None
        self.told: list[str] = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        self._session = self("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "DOM"):
            self(f"{domain}.enable")

    def __call__(self, method: str, **values: Any) -> Any:
        """A command of the protocol, and its result."""
        number = next(self._numbers)
        message: dict[str, Any] = {"id": number, "method": method, "params": values}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _read(self) -> Any:
        while b"\0" not in self._waiting:
            piece = os.read(self._back, 1 << 16)
            assert piece, "the browser is gone"
            self._waiting += piece
        line, _, self._waiting = self._waiting.partition(b"\0")
        return json.loads(line)

    def _note(self, event: Any) -> None:
        """Errors and warnings of the page are kept; of statuses of its requests it has to tell by itself."""
        about = event.get("params", {})
        if event.get("method") == "Runtime.exceptionThrown":
            self.told.append(about["exceptionDetails"]["exception"].get("description", "an exception"))
        entry = about.get("entry", {"level": "", "text": ""})
        if entry["level"] in ("error", "warning") and not entry["text"].startswith("Failed to load resource"):
            self.told.append(f"{entry['text']} {entry.get('url', '')}")

    def js(self, code: str) -> Any:
        """What an expression comes to."""
        found = self("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, url: str) -> None:
        self("Page.navigate", url=url)
        self.sees("document.readyState === 'complete' && document.querySelector('#run option')")

    def sees(self, code: str) -> None:
        """Return when an expression is true."""
        wait_until(lambda: bool(self.js(f"Boolean({code})")))

    def text(self, selector: str) -> str:
        return str(self.js(f"[...document.querySelectorAll({selector!r})].map((each) => each.innerText).join('\\n')"))

    def looks(self, width: int, height: int, scheme: str = "light") -> None:
        """The window's size, and the colours that its owner likes."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self("Emulation.setDeviceMetricsOverride", **size)
        self("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def shot(self, path: Path, *, whole: bool = True) -> Path:
        """A picture of the page."""
        found = self("Page.captureScreenshot", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(found["data"]))
        return path

    # by hand

    def drop(self, files: Sequence[Path], x: int = 400, y: int = 60) -> None:
        """Drag files over the page, and let them fall."""
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self("Input.dispatchDragEvent", type=kind, x=x, y=y, data=data)

    def click(self, selector: str) -> None:
        place = self.js(
            f"(() => {{ const one = document.querySelector({selector!r}); one.scrollIntoView({{block: 'center'}});"
            "const box = one.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        self("Input.insertText", text=text)

    def press(self, name: str, code: int, text: str = "") -> None:
        about = {"key": name, "code": name, "windowsVirtualKeyCode": code, "text": text}
        self("Input.dispatchKeyEvent", type="keyDown", **about)
        self("Input.dispatchKeyEvent", type="keyUp", **about)

    def enter(self) -> None:
        self.press("Enter", 13, "\r")

    def tab(self) -> None:
        self.press("Tab", 9)


@contextmanager
def chromium(folder: Path) -> Iterator[Tab]:
    """A browser that reaches this machine alone, and a page of it."""
    (theirs_in, out), (back, theirs_out) = os.pipe(), os.pipe()
    options = [
        *(f"--disable-{name}" for name in OFF.split()),
        "--headless",
        "--no-sandbox",
        "--no-first-run",
        "--hide-scrollbars",
    ]
    options += [ALONE, f"--user-data-dir={folder / 'profile'}", "--remote-debugging-pipe", "about:blank"]
    copies = f"ours = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in ({theirs_in}, {theirs_out})]"
    ends = f"{copies}; os.dup2(ours[0], 3); os.dup2(ours[1], 4)"
    pipes = [sys.executable, "-SEc", f"import fcntl, os, sys; {ends}; os.execv(sys.argv[1], sys.argv[1:])"]
    with (folder / "chromium.log").open("w") as log:
        running = subprocess.Popen(
            [*pipes, str(CHROMIUM), *options], stdout=log, stderr=log, pass_fds=(theirs_in, theirs_out)
        )
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(out, back)
    finally:
        running.kill()
        running.wait(PATIENCE)
        os.close(out)
        os.close(back)
