"""Headless Chromium without a network, driven through a pipe by the DevTools protocol."""

import base64
import fcntl
import itertools
import json
import os
import pathlib
import select
import shutil
import signal
import tempfile
import time

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Chromium:
    """A page in a browser of its own, with what it wrote to the console and what it asked for.

    Attributes:
      complaints: errors and warnings of the console, and exceptions.
      requests: the addresses of everything that was loaded.
    """

    def __init__(self, width=1400, height=900):
        self.complaints, self.requests = [], []
        self._numbers, self._rest = itertools.count(1), b""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        theirs, self._write = os.pipe()
        self._read, answers = os.pipe()
        arguments = [
            *("--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--no-first-run"),
            *("--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions", "--hide-scrollbars"),
            *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND"),
            f"--user-data-dir={self._profile.name}",
            f"--window-size={width},{height}",
        ]

        actions = [(os.POSIX_SPAWN_OPEN, n, os.devnull, os.O_WRONLY, 0) for n in (1, 2)]
        # the browser reads from 3 and writes to 4, which neither of ours may be when it is copied
        copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 10) for number in (theirs, answers)]
        actions += [(os.POSIX_SPAWN_DUP2, copy, n) for copy, n in zip(copies, (3, 4))]
        command = [PROGRAM, *arguments, "about:blank"]
        self._process = os.posix_spawn(PROGRAM, command, os.environ, file_actions=actions)
        for number in (theirs, answers, *copies):
            os.close(number)
        self._session = None
        targets = self._targets()
        attached = self.call("Target.attachToTarget", targetId=targets[0], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(width, height)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._read)
        os.close(self._write)
        self._profile.cleanup()

    def size(self, width, height=900):
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def open(self, path):
        self.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri())
        deadline = time.monotonic() + 60
        while self.run("document.readyState") != "complete" and time.monotonic() < deadline:
            time.sleep(0.1)

    def run(self, expression):
        """The value of an expression, which may be a promise."""
        found = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"])
        return found["result"].get("value")

    def move(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def click(self, x, y):
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path, clip=None):
        """A PNG of the whole page, or of a part of it."""
        more = {"clip": {**clip, "scale": 1}} if clip else {}
        found = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, **more)
        pathlib.Path(path).write_bytes(base64.b64decode(found["data"]))

    def print(self, path):
        """A PDF of the page, on A4."""
        found = self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        pathlib.Path(path).write_bytes(base64.b64decode(found["data"]))

    def call(self, method, **params):
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]

    def _targets(self):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            infos = self.call("Target.getTargets")["targetInfos"]
            if pages := [info["targetId"] for info in infos if info["type"] == "page"]:
                return pages
            time.sleep(0.1)
        raise RuntimeError("Chromium has no page")

    def _receive(self, timeout=120):
        while b"\0" not in self._rest:
            if not select.select([self._read], [], [], timeout)[0]:
                raise TimeoutError("Chromium does not answer")
            block = os.read(self._read, 1 << 20)
            if not block:
                raise RuntimeError("Chromium has ended")
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\0")
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, method, params):
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(params["exceptionDetails"])
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append([part.get("value") for part in params["args"]])
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(params["entry"])
