"""A server that speaks OpenAI's chat completions and answers from a script."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Asked = list[dict[str, str]]               # the messages
# words, a raw reply, or what makes words of what was asked
Answer = str | tuple[int, bytes] | Callable[[Asked], str]


class Scripted:
    """Where it is, what it was asked, and with which keys."""

    def __init__(self, script: list[Answer]) -> None:
        self.script = list(script)
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.url = ""

    def answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        self.asked.append(body)
        told = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(told, tuple):
            return told
        words = told(body["messages"]) if callable(told) else told
        choice = {"index": 0, "finish_reason": "stop",
                  "message": {"role": "assistant", "content": words}}
        return 200, json.dumps({"id": "x", "object": "chat.completion", "model": body["model"],
                                "choices": [choice], "usage": {"total_tokens": 1}}).encode()


@contextmanager
def speaking(*script: Answer) -> Iterator[Scripted]:
    """A server on this machine that says these one after another, the last for ever."""
    told = Scripted(list(script))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            length = int(self.headers["Content-Length"])
            told.keys.append(self.headers.get("Authorization"))
            status, body = told.answer(json.loads(self.rfile.read(length)))
            self.send_response(status)
            if status in (301, 302, 307):
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    told.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
