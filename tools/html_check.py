"""Open pages in a real browser at three widths: no overflow, no message, no request.

    python tools/html_check.py report.html [--pictures FOLDER] [--dark] [--axe axe.min.js]

`--axe` names the file of axe-core (npm), which then looks for what screen readers stumble over.

It also tells how large a page is and how long it takes to write it from the report that it holds.
A Chromium that runs without a screen is needed: CHROME names it, else it is looked for by its usual
names. Without one nothing is checked, and the last line says so. It is driven by the DevTools
protocol over two pipes, so that nothing has to be installed beside it.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

from onnxprune.report.html.about import About
from onnxprune.report.html.page import JSON_ID, page

#: Widths of windows: a telephone, a computer, a wide screen; the height of all.
WIDTHS, HEIGHT = (400, 1200, 2000), 900
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome", "chrome-headless-shell")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-dev-shm-usage "
    "--remote-debugging-pipe --no-first-run --disable-background-networking"
).split()
#: What a page must not have: it is evaluated in the browser, and gives text.
MEASURE = """(() => {
  const wide = document.documentElement.clientWidth, found = [];
  if (document.documentElement.scrollWidth > wide)
    found.push(`the page is ${document.documentElement.scrollWidth} wide, the window ${wide}`);
  for (const one of document.querySelectorAll('main *')) {
    const box = one.getBoundingClientRect();
    if (box.right > wide + 1 && !one.closest('.scroll') && box.width)
      found.push(`${one.tagName} ${one.className.baseVal ?? one.className} ends at ${box.right}`);
  }
  for (const text of document.querySelectorAll('svg text')) {
    const box = text.getBoundingClientRect();
    if (box.width && (box.left < 0 || box.right > wide + 1))
      found.push(`text '${text.textContent}' lies outside, from ${box.left} to ${box.right}`);
  }
  return found.slice(0, 10).join('\\n');
})()"""


class Seen(NamedTuple):
    """What is wrong with a page at a width, and its picture."""

    width: int
    faults: list[str]
    picture: bytes


class Browser:
    """A browser that is spoken to over two pipes; messages end with a zero byte."""

    def __init__(self, process: subprocess.Popen[bytes], write: int, read: int) -> None:
        self.process, self.write = process, write
        self.read = os.fdopen(read, "rb")
        self.count, self.events = 0, list[dict[str, Any]]()
        self.session = ""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer; events that come before are kept."""
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._message()
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return dict(answer["result"])
            self.events.append(answer)

    def wait(self, event: str) -> None:
        """Wait until the browser tells of an event."""
        while not any(one.get("method") == event for one in self.events):
            self.events.append(self._message())

    def _message(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self.read.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser ended")
            text += byte
        return dict(json.loads(text))


def found_browser(named: str | None = None) -> str | None:
    """The path of a browser, None where there is none."""
    named = named or os.environ.get("CHROME")
    return named or next((path for name in NAMES if (path := shutil.which(name))), None)


@contextmanager
def opened(path: str) -> Iterator[Browser]:
    """Start a browser with a page of its own, and end it."""
    command, answer = os.pipe(), os.pipe()

    def move() -> None:  # the browser reads from 3 and writes to 4
        ends = [fcntl.fcntl(one, fcntl.F_DUPFD, 10) for one in (command[0], answer[1])]
        os.dup2(ends[0], 3)
        os.dup2(ends[1], 4)

    with tempfile.TemporaryDirectory() as folder:
        arguments = [path, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(
            arguments,
            preexec_fn=move,
            pass_fds=(3, 4),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(command[0])
        os.close(answer[1])
        browser = Browser(process, command[1], answer[0])
        try:
            made = browser.call("Target.createTarget", url="about:blank")
            session = browser.call("Target.attachToTarget", flatten=True, **made)
            browser.session = session["sessionId"]
            yield browser
        finally:
            process.kill()
            process.wait()
            os.close(command[1])
            browser.read.close()


def look(browser: Browser, path: Path, width: int, dark: bool = False) -> Seen:
    """Open a page in a window of a width, and say what is wrong with it."""
    browser.events.clear()
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.call(f"{domain}.enable")
    browser.call(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=HEIGHT,
        deviceScaleFactor=1,
        mobile=False,
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", features=[scheme])
    browser.call("Page.navigate", url=path.resolve().as_uri())
    browser.wait("Page.loadEventFired")
    measured = browser.call("Runtime.evaluate", expression=MEASURE, returnByValue=True)
    faults = [line for line in measured["result"].get("value", "?").split("\n") if line]
    shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
    faults += list(_told(browser.events, path))
    return Seen(width, faults, base64.b64decode(shot["data"]))


def _told(events: Sequence[dict[str, Any]], path: Path) -> Iterator[str]:
    """Messages of the page, and what it asked the network for."""
    for event in events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Log.entryAdded":
            yield f"message: {params['entry']['text']}"
        elif method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            yield f"message: {method}"
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url != path.resolve().as_uri() and not url.startswith("data:"):
                yield f"request: {url}"


def inaccessible(browser: Browser, axe: str) -> list[str]:
    """What the script of axe-core has against the page that is open."""
    browser.call("Runtime.evaluate", expression=axe)
    asked = """axe.run().then(found => JSON.stringify(
      found.violations.map(one => `${one.id}: ${one.help}: ${one.nodes[0].html.slice(0, 120)}`)))"""
    told = browser.call("Runtime.evaluate", expression=asked, awaitPromise=True, returnByValue=True)
    return [str(line) for line in json.loads(told["result"]["value"])]


def cost(path: Path) -> str:
    """How large a page is, and the processor time to write it anew: the least of five."""
    text = path.read_text(encoding="utf-8")
    found = re.search(rf'data-command="(\w+)" id="{JSON_ID}">(.*?)</script>', text)
    if found is None:
        return "no page of onnxprune"
    values, about, taken = json.loads(found[2]), About(found[1], [path.name]), list[float]()
    for _ in range(5):
        start = process_time()
        page(values, about)
        taken.append(process_time() - start)
    return f"{len(text.encode()) / 1000:.0f} kB, written in {1000 * min(taken):.0f} ms"


def main(words: Sequence[str] | None = None) -> int:
    """Check pages; 1 where something is wrong with one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for pictures")
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--axe", type=Path, help="axe.min.js of axe-core")
    parser.add_argument("--browser")
    options = parser.parse_args(words)
    if missing := [str(one) for one in options.pages if not one.is_file()]:
        parser.error(f"no such page: {', '.join(missing)}")
    for one in options.pages:
        print(f"{one.name}: {cost(one)}")
    path = found_browser(options.browser)
    if path is None:
        print("not checked: no browser was found; name a Chromium in CHROME")
        return 0
    wrong, axe = 0, options.axe.read_text(encoding="utf-8") if options.axe else ""
    with opened(path) as browser:
        for one in options.pages:
            for width in WIDTHS:
                seen = look(browser, one, width, options.dark)
                faults = seen.faults + (inaccessible(browser, axe) if axe else [])
                wrong += bool(faults)
                print(f"{one.name} at {width}: {'; '.join(faults) or 'fine'}")
                if options.pictures:
                    mode = "-dark" if options.dark else ""
                    picture = options.pictures / f"{one.stem}-{width}{mode}.png"
                    picture.write_bytes(seen.picture)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
