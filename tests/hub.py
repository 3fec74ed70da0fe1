"""A hub that runs here: an http.server that `huggingface_hub` itself talks to."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from huggingface_hub import constants

REVISION = "a" * 40
CHUNK = 4096  # bytes that arrive at once


class Hub:
    """A hub with one repository: `files` by name; what was asked for is noted in `requests`."""

    def __init__(self, files, repository):
        self.repository = repository
        self.files = dict(files)
        self.requests = []
        self.breaks = {}  # name -> bytes after which the line breaks, once
        self.status = 200
        self.ranges = True
        self.described = dict(files)  # what the listing speaks of

    def listing(self):
        def entry(name, content):
            git_hash = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
            about = {"rfilename": name, "size": len(content), "blobId": git_hash}
            if name.endswith(".safetensors"):
                sha = hashlib.sha256(content).hexdigest()
                about["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
            return about

        siblings = [entry(*item) for item in self.described.items()]
        return {"id": self.repository, "sha": REVISION, "siblings": siblings, "tags": []}

    def fetched(self):
        return [name for name, _ in self.requests]


def handler_for(hub):
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            path = self.path.split("?")[0]
            if hub.status != 200:
                return self.answer(hub.status, b"busy")
            if path == f"/api/models/{hub.repository}":
                return self.answer(200, json.dumps(hub.listing()).encode())
            prefix = f"/{hub.repository}/resolve/{REVISION}/"
            if not path.startswith(prefix):
                return self.answer(404, b"no")
            name = path.removeprefix(prefix)
            asked = self.headers.get("Range")
            hub.requests.append((name, asked))
            content = hub.files[name]
            start = int(asked.removeprefix("bytes=").split("-")[0]) if asked and hub.ranges else 0
            headers = {"Content-Length": str(len(content) - start)}
            if start:
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.send_response(206 if start else 200)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[start : hub.breaks.pop(name, len(content))])

        def answer(self, status, body):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


@contextmanager
def serving(hub, monkeypatch):
    """Serve a hub; `huggingface_hub` talks to it as long as the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_for(hub))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", hub.address)
    template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(
        "huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False
    )
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()
