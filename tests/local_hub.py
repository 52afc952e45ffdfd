"""A small Hub on loopback, to push to and to pull from without the Internet.

It speaks as much of the Hub's HTTP API as `huggingface_hub` 2.4, `transformers` 5.24 and `datasets` 5.2 use to push and
pull models and data sets, and it is our reading of that protocol, from those clients' sources: what the real Hub does
beyond, such as Xet storage, quotas or gated repositories, is not here. A client finds it by `HF_ENDPOINT`, and must
set `HF_HUB_DISABLE_XET=1`; both are read when `huggingface_hub` is imported.

```sh
python tests/local_hub.py     # prints what to export, then serves until it is stopped
```
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import uvicorn
import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from hub_repository import Commit, File, Refused, Repository, entries

LFS_SUFFIXES = (".safetensors", ".parquet", ".png", ".jpg", ".bin", ".pt", ".pth", ".arrow")
PAGE = 5
"""Entries of a tree in one answer: few, so that clients must turn pages."""


@dataclass
class LocalHub:
    """What is on the Hub, who may see it, what was asked of it, and how it fails.

    Attributes:
        tokens: the user of each token.
        repositories: by type (`models`, `datasets`) and id.
        objects: content of large files, by SHA-256.
        requests: method and path of each request so far.
        cut_after: bytes of an upload after which the connection is cut; `None` to let all through.
        cuts: uploads that are still to be cut.
        url: where it answers, once it is served.
    """

    tokens: dict[str, str] = field(default_factory=lambda: {"hf_me": "me", "hf_other": "other"})
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    cut_after: int | None = None
    cuts: int = 0
    url: str = ""

    def repository(self, kind: str, name: str, user: str | None, write: bool = False) -> Repository:
        found = self.repositories.get((kind, name))
        owner = name.partition("/")[0]
        if found is None or (found.private and user != owner):
            # The Hub does not say which of the two it is; without a token it asks for one.
            raise Refused(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user is None:
            raise Refused(401, "Invalid username or password.")
        if write and user != owner:
            raise Refused(403, f"You don't have the rights to write to {name}")
        return found

    def user_of(self, request: Request) -> str | None:
        given = request.headers.get("authorization")
        if given is None:
            return None
        user = self.tokens.get(given.removeprefix("Bearer "))
        if user is None:
            raise Refused(401, "Invalid credentials in Authorization header")
        return user

    def downloads(self) -> list[str]:
        """Paths of the files whose content was fetched so far, in order."""
        fetched = [path for what, path in self.requests if what == "GET" and "/resolve/" in path]
        return [path.split("/resolve/")[1].partition("/")[2] for path in fetched]

    @contextmanager
    def served(self, port: int = 0) -> Iterator[LocalHub]:
        """Answer on loopback while inside; `url` and `environment` say where."""
        listening = socket.create_server(("127.0.0.1", port))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(remembering(self), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            server.should_exit = True
            thread.join(10)
            listening.close()

    def environment(self, token: str | None = "hf_me") -> dict[str, str]:
        """What a process needs to find it."""
        found = {"HF_ENDPOINT": self.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        return found | ({"HF_TOKEN": token} if token else {})


def remembering(hub: LocalHub) -> Callable[..., Awaitable[None]]:
    """The HTTP face of `hub`, with a note of each request."""
    app = application(hub)

    async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            hub.requests.append((scope["method"], scope["path"]))
            # uvicorn hands on a method of its connection: only through it can a connection be cut.
            scope["connection"] = receive.__self__.transport
        await app(scope, receive, send)

    return answer


def application(hub: LocalHub) -> FastAPI:
    """The HTTP face of `hub`."""
    app = FastAPI(openapi_url=None)

    @app.exception_handler(Refused)
    def refuse(request: Request, refused: Refused) -> Response:
        headers = {"X-Error-Message": str(refused)} | ({"X-Error-Code": refused.code} if refused.code else {})
        return JSONResponse({"error": str(refused)}, refused.status, headers)

    @app.get("/api/whoami-v2")
    def whoami(request: Request) -> dict[str, Any]:
        user = hub.user_of(request)
        if user is None:
            raise Refused(401, "Invalid username or password.")
        return {"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": "write"}}}

    @app.post("/api/repos/create")
    async def create(request: Request) -> Response:
        user, asked = hub.user_of(request), await request.json()
        if user is None:
            raise Refused(401, "Invalid username or password.")
        name = f"{asked.get('organization') or user}/{asked['name']}"
        if name.partition("/")[0] != user:
            raise Refused(403, f"You don't have the rights to create a repository under the namespace {name}")
        kind = f"{asked.get('type') or 'model'}s"
        url = f"{hub.url}/{'' if kind == 'models' else kind + '/'}{name}"
        if (kind, name) in hub.repositories:
            return JSONResponse({"error": "You already created this repository", "url": url}, 409)
        hub.repositories[kind, name] = Repository(private=asked.get("visibility") == "private")
        return JSONResponse({"url": url, "name": name})

    @app.post("/api/validate-yaml")
    async def validate(request: Request) -> Response:
        content = (await request.json())["content"]
        parts = content.split("---\n")
        try:
            metadata = yaml.safe_load(parts[1]) if content.startswith("---\n") else {}
        except yaml.YAMLError as error:
            return JSONResponse({"errors": [{"message": str(error)}], "warnings": []}, 400)
        ok = isinstance(metadata, dict)
        errors = [] if ok else [{"message": "metadata must be an object"}]
        return JSONResponse({"errors": errors, "warnings": []}, 200 if ok else 400)

    @app.post("/api/{kind}/{owner}/{name}/preupload/{revision}")
    async def preupload(kind: str, owner: str, name: str, revision: str, request: Request) -> dict[str, Any]:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request), write=True)
        known, answers = repository.files(revision), []
        for file in (await request.json())["files"]:
            large = file["path"].endswith(LFS_SUFFIXES) or file["size"] > 10_000_000
            there = known.get(file["path"])
            oid = there and (there.sha256 or there.git_hash)
            mode = "lfs" if large else "regular"
            answers.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return {"files": answers}

    async def batch(kind: str, name: str, request: Request) -> dict[str, Any]:
        hub.repository(kind, name, hub.user_of(request), write=True)
        answers = []
        for one in (await request.json())["objects"]:
            answer: dict[str, Any] = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in hub.objects:
                answer["actions"] = {"upload": {"href": f"{hub.url}/objects/{one['oid']}"}}
            answers.append(answer)
        return {"transfer": "basic", "objects": answers}

    @app.post("/{owner}/{name}.git/info/lfs/objects/batch")
    async def model_batch(owner: str, name: str, request: Request) -> dict[str, Any]:
        return await batch("models", f"{owner}/{name}", request)

    @app.post("/datasets/{owner}/{name}.git/info/lfs/objects/batch")
    async def dataset_batch(owner: str, name: str, request: Request) -> dict[str, Any]:
        return await batch("datasets", f"{owner}/{name}", request)

    @app.put("/objects/{oid}")
    async def store(oid: str, request: Request) -> Response:
        # Signed by its address, as on the Hub: no token comes along.
        content = bytearray()
        async for part in request.stream():
            content += part
            if hub.cuts and hub.cut_after is not None and len(content) > hub.cut_after:
                hub.cuts -= 1
                request.scope["connection"].abort()
                return Response()
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refused(400, f"The content is not that of {oid}")
        hub.objects[oid] = bytes(content)
        return Response()

    @app.post("/api/{kind}/{owner}/{name}/commit/{branch}")
    async def commit(kind: str, owner: str, name: str, branch: str, request: Request) -> dict[str, Any]:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request), write=True)
        if branch not in repository.branches:
            raise Refused(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = repository.branches[branch]
        lines = [json.loads(line) for line in (await request.body()).splitlines() if line.strip()]
        files, title = dict(repository.commits[head].files), ""
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                title = value["summary"]
                if value.get("parentCommit") not in (None, head):
                    raise Refused(412, "A commit has happened since. Please refresh and try again.")
            elif line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                if value["oid"] not in hub.objects:
                    raise Refused(400, f"Your push was rejected: the large file {value['path']} is not there")
                size = len(hub.objects[value["oid"]])
                files[value["path"]] = File(sha256=value["oid"], size=size)
            elif line["key"] == "deletedFile":
                if files.pop(value["path"], None) is None:
                    raise Refused(404, "A file with this name doesn't exist", "EntryNotFound")
            elif line["key"] == "deletedFolder":
                files = {path: file for path, file in files.items() if not path.startswith(value["path"])}
        made = repository.add(branch, Commit(files, title, head))
        return {"success": True, "commitOid": made, "commitUrl": f"{hub.url}/{owner}/{name}/commit/{made}"}

    def info(kind: str, name: str, revision: str, request: Request) -> dict[str, Any]:
        repository = hub.repository(kind, name, hub.user_of(request))
        found = repository.resolve(revision)
        siblings = [{"rfilename": path} for path in sorted(repository.commits[found].files)]
        what = {"id": name, "author": name.partition("/")[0], "sha": found, "private": repository.private}
        return what | {"siblings": siblings, "tags": [], "downloads": 0, "likes": 0, "disabled": False, "gated": False}

    @app.get("/api/{kind}/{owner}/{name}")
    def head_info(kind: str, owner: str, name: str, request: Request) -> dict[str, Any]:
        return info(kind, f"{owner}/{name}", "main", request)

    @app.get("/api/{kind}/{owner}/{name}/revision/{revision}")
    def revision_info(kind: str, owner: str, name: str, revision: str, request: Request) -> dict[str, Any]:
        return info(kind, f"{owner}/{name}", revision, request)

    @app.get("/api/{kind}/{owner}/{name}/refs")
    def refs(kind: str, owner: str, name: str, request: Request) -> dict[str, Any]:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request))
        named = {"branches": ("heads", repository.branches), "tags": ("tags", repository.tags)}
        found = {
            key: [{"name": one, "ref": f"refs/{place}/{one}", "targetCommit": oid} for one, oid in of.items()]
            for key, (place, of) in named.items()
        }
        return found | {"converts": [], "pullRequests": []}

    @app.post("/api/{kind}/{owner}/{name}/branch/{branch}")
    async def add_branch(kind: str, owner: str, name: str, branch: str, request: Request) -> Response:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request), write=True)
        if branch in repository.branches:
            raise Refused(409, f"Reference already exists: {branch}")
        start = json.loads(await request.body() or b"{}").get("startingPoint", "main")
        repository.branches[branch] = repository.resolve(start)
        return JSONResponse({})

    @app.post("/api/{kind}/{owner}/{name}/tag/{revision}")
    async def add_tag(kind: str, owner: str, name: str, revision: str, request: Request) -> Response:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request), write=True)
        repository.tags[(await request.json())["tag"]] = repository.resolve(revision)
        return JSONResponse({})

    @app.get("/api/{kind}/{owner}/{name}/tree/{revision}")
    @app.get("/api/{kind}/{owner}/{name}/tree/{revision}/{folder:path}")
    def tree(kind: str, owner: str, name: str, revision: str, request: Request, folder: str = "") -> Response:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request))
        found = entries(repository.files(revision), folder.strip("/"), "recursive" in request.url.query.lower())
        if folder and not found:
            raise Refused(404, f"{folder} does not exist", "EntryNotFound")
        start = int(request.query_params.get("cursor", 0))
        following = request.url.include_query_params(cursor=start + PAGE)
        headers = {"Link": f'<{following}>; rel="next"'} if start + PAGE < len(found) else {}
        return JSONResponse(found[start : start + PAGE], headers=headers)

    @app.post("/api/{kind}/{owner}/{name}/paths-info/{revision}")
    async def paths_info(kind: str, owner: str, name: str, revision: str, request: Request) -> list[dict[str, Any]]:
        repository = hub.repository(kind, f"{owner}/{name}", hub.user_of(request))
        files = repository.files(revision)
        asked = parse_qs((await request.body()).decode()).get("paths", [])
        every = {entry["path"]: entry for entry in entries(files, "", recursive=True)}
        return [every[path] for path in asked if path in every]

    def resolve(kind: str, name: str, revision: str, path: str, request: Request) -> Response:
        repository = hub.repository(kind, name, hub.user_of(request))
        found = repository.resolve(revision)
        file = repository.commits[found].files.get(path)
        if file is None:
            missing = Refused(404, "Entry not found", "EntryNotFound")
            answer = refuse(request, missing)
            answer.headers["X-Repo-Commit"] = found
            return answer
        headers = {"X-Repo-Commit": found, "ETag": f'"{file.sha256 or file.git_hash}"'}
        if file.sha256 is None:
            return _content(file.content, request, headers)
        # The Hub sends the client on to another host for these; one host has nowhere to send it.
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
        return _content(hub.objects[file.sha256], request, headers)

    @app.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    def resolve_model(owner: str, name: str, revision: str, path: str, request: Request) -> Response:
        return resolve("models", f"{owner}/{name}", revision, path, request)

    @app.api_route("/datasets/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
    def resolve_dataset(owner: str, name: str, revision: str, path: str, request: Request) -> Response:
        return resolve("datasets", f"{owner}/{name}", revision, path, request)

    return app


def _content(content: bytes, request: Request, headers: dict[str, str] | None = None) -> Response:
    """`content`, or the part of it that a resumed download asks for."""
    wanted = request.headers.get("range")
    headers = {"Accept-Ranges": "bytes", **(headers or {})}
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(len(content))})
    if wanted is None:
        return Response(content, headers=headers)
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
    return Response(content[start:stop], 206, headers)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an empty Hub on loopback.")
    parser.add_argument("--port", type=int, default=0)
    with LocalHub().served(parser.parse_args().port) as hub:
        print("\n".join(f"export {name}={value}" for name, value in hub.environment().items()), flush=True)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
