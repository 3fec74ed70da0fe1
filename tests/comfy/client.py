"""A real ComfyUI server in a subprocess, and the little of its HTTP and WebSocket API we need.

Only the standard library: the server runs in its own interpreter, the tests in pytest's.
"""

import base64
import json
import os
import secrets
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START_SECONDS = 1200  # about 25 on two free cores
BINARY, TEXT, CLOSE = 2, 1, 8  # WebSocket frame kinds
PREVIEW_EVENT, TEXT_EVENT, PREVIEW_WITH_METADATA_EVENT = 1, 3, 4  # ComfyUI's binary messages


@dataclass
class Server:
    """A running server: where it listens, its base directory and its log."""

    process: subprocess.Popen
    port: int
    base: Path
    log_path: Path
    launch: Callable[[], tuple[subprocess.Popen, int]]  # gives the process and its port

    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        return self._call(path)

    def post(self, path: str, body: dict) -> Any:
        return self._call(path, json.dumps(body).encode())

    def _call(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                text = reply.read()
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode()}") from error
        return json.loads(text) if text else None

    def run(self, prompt: dict, seconds: float, on_event: Any = None) -> "Run":
        """Queue a prompt, follow its events until it ends, and return what happened."""
        client = secrets.token_hex(8)
        with EventStream(self.port, client) as events:
            queued = self.post("/prompt", {"prompt": prompt, "client_id": client})
            run = Run(queued["prompt_id"], [])
            deadline = time.monotonic() + seconds
            while True:
                event = events.next(deadline - time.monotonic())
                run.events.append(event)
                if on_event is not None:
                    on_event(self, run, event)
                if event.kind in ("execution_success", "execution_error", "execution_interrupted"):
                    break
        return run

    def outputs(self, run: "Run") -> dict[str, dict]:
        """Return what each node showed: node id -> its ui dictionary."""
        for _ in range(50):  # the history is written just after the last event
            history = self.get(f"/history/{run.prompt_id}")
            if history:
                return history[run.prompt_id]["outputs"]
            time.sleep(0.1)
        raise RuntimeError(f"prompt {run.prompt_id} is not in the history")

    def file(self, shown: dict) -> Path:
        """Return the path of a {filename, subfolder, type} that a node showed."""
        return self.base / shown["type"] / shown["subfolder"] / shown["filename"]

    def memory(self) -> int:
        """Return the bytes of real memory that the server's process takes (Linux only)."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def work(self) -> float:
        """Return the seconds the server's process has computed so far.

        Unlike the time on the clock, which is taken where there is no /proc, they do not grow while
        other programs have the processor.
        """
        stat = Path(f"/proc/{self.process.pid}/stat")
        if not stat.exists():
            return time.monotonic()
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")  # user and system time

    def version(self) -> tuple[int, int]:
        """Return ComfyUI's version, as in (0, 33)."""
        text = self.get("/system_stats")["system"]["comfyui_version"]
        major, minor = text.split(".")[:2]
        return int(major), int(minor)

    def restart(self) -> None:
        """Stop the server and start it again on the same base directory."""
        self.stop()
        self.process, self.port = self.launch()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                self.get("/system_stats")
                return
            except (OSError, RuntimeError):
                time.sleep(0.5)
        self.stop()
        raise RuntimeError(f"ComfyUI did not start:\n{self.log()[-4000:]}")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Event:
    """One message of the server: its kind, its data, and when it came (seconds)."""

    kind: str  # "progress", "executing", ..., or "preview" and "text" for binary messages
    data: Any
    time: float


@dataclass
class Run:
    """A finished prompt with all its events."""

    prompt_id: str
    events: list[Event]

    @property
    def end(self) -> Event:
        return self.events[-1]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event.kind == kind]

    def ran(self) -> set[str]:
        """Return the ids of the nodes that were executed; the others came from the cache."""
        return {event.data["node"] for event in self.of("executing")} - {None}

    def during(self, node: str) -> list[Event]:
        """Return the events while a node ran."""
        found, running = [], False
        for event in self.events:
            if event.kind == "executing":
                running = event.data["node"] == node
            elif running:
                found.append(event)
        return found


def start_server(comfy: Path, python: str, base: Path, *flags: str) -> Server:
    """Start ComfyUI on the CPU with `base` as its base directory and wait until it answers."""
    for name in ("custom_nodes", "input", "output", "user", "models"):
        (base / name).mkdir(parents=True, exist_ok=True)
    command = ["--base-directory", str(base), "--user-directory", str(base / "user")]
    command += ["--database-url", "sqlite:///:memory:", "--disable-api-nodes", *flags]
    log_path = base / "server.log"
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
    environment["HF_HUB_OFFLINE"] = "1"  # tests fetch nothing
    environment.pop("PYTHONPATH", None)

    def launch() -> tuple[subprocess.Popen, int]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        start = [python, "main.py", "--cpu", "--port", str(port), *command]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                start, cwd=comfy, stdout=log, stderr=subprocess.STDOUT, env=environment
            )
        return process, port

    server = Server(*launch(), base, log_path, launch)
    server.wait_until_ready()
    return server


class EventStream:
    """The server's WebSocket, read one message at a time."""

    def __init__(self, port: int, client: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self._socket.sendall(
            (
                f"GET /ws?clientId={client} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {key}\r\n\r\n"
            ).encode()
        )
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._buffer += self._socket.recv(4096)
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        if b" 101 " not in head.split(b"\r\n")[0]:
            raise RuntimeError(f"no WebSocket: {head!r}")

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def next(self, seconds: float) -> Event:
        """Return the next message; TimeoutError when none comes in time."""
        end = time.monotonic() + seconds
        while True:
            self._socket.settimeout(max(end - time.monotonic(), 0.001))
            kind, payload = self._frame()
            if kind == TEXT:
                message = json.loads(payload)
                return Event(message["type"], message["data"], time.monotonic())
            if kind == BINARY:
                number = struct.unpack(">I", payload[:4])[0]
                name = "text" if number == TEXT_EVENT else "preview"
                return Event(name, payload[4:], time.monotonic())
            if kind == CLOSE:
                raise RuntimeError("the server closed the WebSocket")

    def _frame(self) -> tuple[int, bytes]:
        """Return kind and payload of one message, joining fragments (RFC 6455; no masking)."""
        message, kind = b"", 0
        while True:
            first, second = self._read(2)
            size = second & 127
            if size == 126:
                size = struct.unpack(">H", self._read(2))[0]
            elif size == 127:
                size = struct.unpack(">Q", self._read(8))[0]
            message += self._read(size)
            kind = (first & 15) or kind
            if first & 128:
                return kind, message

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError("the server went away")
            self._buffer += more
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken
