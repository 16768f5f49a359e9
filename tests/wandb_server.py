"""A W&B server small enough for tests: it answers what the client asks, and keeps what it is sent."""

import json
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "a" * 40


class WandbServer(ThreadingHTTPServer):
    """On a port of this machine; ``with WandbServer() as server``.

    Attributes:
        runs: by id: ``config``, ``group``, ``kind``, ``summary``, and ``history``, rows by place as
            W&B keeps them.
        artifacts: (type, name) of each.
        files: names of the uploaded files.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.runs: dict[str, dict[str, Any]] = defaultdict(
            lambda: {"config": {}, "summary": {}, "history": {}}
        )
        self.artifacts: list[tuple[str, str]] = []
        self.files: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> "WandbServer":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no news."""

    def history(self, run: str) -> list[dict[str, Any]]:
        rows = self.runs[run]["history"]
        return [rows[place] for place in sorted(rows)]

    def answer(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """To a GraphQL request."""
        if operation == "UpsertBucket":
            return self._run(given)
        if operation == "Viewer":
            return {
                "viewer": {
                    "id": "v",
                    "entity": "me",
                    "username": "me",
                    "flags": "{}",
                    "teams": {"edges": []},
                }
            }
        if operation == "CreateRunFiles":
            self.files += given["files"]
            urls = [
                {"name": name, "uploadUrl": f"{self.url}/put/{name}"} for name in given["files"]
            ]
            return {"createRunFiles": {"runID": "r", "uploadHeaders": [], "files": urls}}
        if operation == "CreateArtifact":
            asked = given["input"]
            self.artifacts.append((asked["artifactTypeName"], asked["artifactCollectionName"]))
            made = {
                "id": "a",
                "state": "COMMITTED",
                "artifactSequence": {"id": "s", "latestArtifact": None},
            }
            return {"createArtifact": {"artifact": made}}
        return {"project": None}

    def _run(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.runs[given["name"]]
        run["config"] |= json.loads(given["config"] or "{}")
        run |= {
            key: given[name]
            for key, name in (("group", "groupName"), ("kind", "jobType"))
            if given[name]
        }
        entity = {"id": "e", "name": "me"}
        project = {"id": "p", "name": given["project"], "entity": entity}
        bucket = {
            "id": "r",
            "name": given["name"],
            "displayName": given["displayName"],
            "config": "{}",
            "historyLineCount": 0,
            "project": project,
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def stream(self, run: str, files: dict[str, Any]) -> None:
        """History and summary: a line goes to its place, and takes that of an older one."""
        sent = files.get("wandb-history.jsonl", {"offset": 0, "content": []})
        for place, line in enumerate(sent["content"], sent["offset"]):
            self.runs[run]["history"][place] = json.loads(line)
        for line in files.get("wandb-summary.json", {"content": []})["content"]:
            self.runs[run]["summary"] = json.loads(line)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WandbServer

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        self._reply({})

    def do_PUT(self) -> None:
        self._body()
        self._reply({})

    def do_POST(self) -> None:
        body = self._body()
        if self.path.endswith("/graphql"):
            asked = json.loads(body)
            operation = (
                asked.get("operationName") or asked["query"].split("{")[0].split("(")[0].split()[-1]
            )
            self._reply({"data": self.server.answer(operation, asked.get("variables") or {})})
        elif self.path.endswith("/file_stream"):
            self.server.stream(self.path.split("/")[-2], json.loads(body).get("files") or {})
            self._reply({"limits": {}})
        else:
            self._reply({})

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _reply(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
