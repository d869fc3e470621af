"""A hub of one's own: as much of the Hugging Face hub's HTTP interface as publishing and fetching a repository takes."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml


@dataclass
class Repository:
    """States by commit, and commits by branch."""

    private: bool = False
    states: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commit = self.branches.get(revision, revision)
        return (commit, self.states[commit]) if commit in self.states else None

    def commit(self, branch: str, lines: list[dict[str, Any]]) -> str:
        files = dict(self.states[self.branches[branch]])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = hashlib.sha1(repr((self.branches[branch], sorted(files.items()))).encode()).hexdigest()
        self.states[oid], self.branches[branch] = files, oid
        return oid


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def _answer(self, code: int, body: Any = b"", **headers: str) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _refuse(self, code: int, kind: str) -> None:
        self._answer(code, {"error": kind}, X_Error_Code=kind, X_Error_Message=kind)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _route(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        self.server.asked.append((self.command, path))
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in self.server.repositories:
                return self._answer(409, {"error": "exists", "url": f"{self.server.url}/{name}"})
            self.server.repositories[name] = Repository(
                private=asked.get("visibility") == "private" or bool(asked.get("private"))
            )
            return self._answer(200, {"url": f"{self.server.url}/{name}", "name": name, "id": name})
        if path == "/api/validate-yaml":
            head = yaml.safe_load(json.loads(body)["content"].split("---\n")[1])
            wrong = [] if isinstance(head, dict) else [{"message": "no mapping"}]
            return self._answer(400 if wrong else 200, {"errors": wrong, "warnings": []})
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)(?:/(.+))?)?", path):
            return self._api(*found.groups(), body=body)
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups())
        return self._refuse(404, "NotFound")

    do_GET = do_POST = do_HEAD = _route  # noqa: N815

    def _api(self, name: str, what: str | None, rest: str | None, *, body: bytes) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        if what == "preupload":
            files = json.loads(body)["files"]
            modes = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in files]
            return self._answer(200, {"files": modes})
        if what == "branch" and rest:
            known = rest in repository.branches
            repository.branches.setdefault(rest, repository.branches["main"])
            return self._answer(409 if known else 200, {})
        if what == "commit" and rest:
            oid = repository.commit(rest, [json.loads(line) for line in body.splitlines()])
            return self._answer(200, {"commitUrl": f"{self.server.url}/{name}/commit/{oid}", "commitOid": oid})
        found = repository.at((rest or "main").split("/")[0])
        if found is None:
            return self._refuse(404, "RevisionNotFound")
        commit, files = found
        if what == "tree":
            listed = [
                {"type": "file", "path": path, "size": len(data), "oid": _sum(data)} for path, data in files.items()
            ]
            return self._answer(200, listed)
        siblings = [{"rfilename": path} for path in files]
        return self._answer(200, {"id": name, "sha": commit, "siblings": siblings, "private": repository.private})

    def _file(self, name: str, revision: str, path: str) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:
            return self._refuse(404, "RepoNotFound")
        found = repository.at(revision)
        if found is None:
            return self._refuse(404, "RevisionNotFound")
        if path not in found[1]:
            return self._answer(404, {}, X_Error_Code="EntryNotFound", X_Repo_Commit=found[0])
        data = found[1][path]
        return self._answer(200, data, ETag=f'"{_sum(data)}"', X_Repo_Commit=found[0])


def _sum(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


class Hub(ThreadingHTTPServer):
    """`repositories` by name, and what was `asked`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    @staticmethod
    def new(files: dict[str, bytes]) -> Repository:
        """A repository of somebody else's."""
        return Repository(states={"1" * 40: files}, branches={"main": "1" * 40})


@contextmanager
def hub() -> Iterator[Hub]:
    """A hub that answers during the block."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
