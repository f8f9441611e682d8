"""A server on this machine whose answers misbehave in every way."""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator

Answer = Callable[["Answers"], None]


class Server(http.server.ThreadingHTTPServer):
    """`answers`: what each path does; `asked`: (path with its query, its headers) of every request."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answers)
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.released = threading.Event()  # lets go of what hangs

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def link(self, path: str = "/x.safetensors") -> str:
        return f"http://{self.host}{path}"

    def handle_error(self, request, address) -> None:
        pass  # clients that hang up


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.server.answers[urllib.parse.unquote(self.path.partition("?")[0])](self)

    def start(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def log_message(self, *arguments) -> None:
        pass


def whole(content: bytes, etag: str = '"1"', breaks: int = 0, **headers: object) -> Answer:
    """A file with its ETag, and parts of it for who asks. breaks: connections that end in the middle of it."""
    left = [breaks]

    def answer(http: Answers) -> None:
        start = 0
        if etag and http.headers.get("If-Range") == etag and (part := http.headers.get("Range")):
            start = int(re.fullmatch(r"bytes=(\d+)-", part)[1])
        about = {"ETag": etag} if etag else {}
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        http.start(206 if start else 200, Content_Length=len(content) - start, **about, **headers)
        if left[0] and "Range" not in http.headers and http.server.asked[:-1]:
            left[0] -= 1
            http.wfile.write(content[: len(content) // 2])
        elif left[0] and start:
            left[0] -= 1
            http.wfile.write(content[start : start + 1000])
        else:
            http.wfile.write(content[start:])

    return answer


def unsized(content: bytes, **headers: object) -> Answer:
    """Until the connection ends, and nothing tells where that should be."""

    def answer(http: Answers) -> None:
        http.start(**headers)
        http.wfile.write(content)

    return answer


def chunked(content: bytes, cut: bool = False) -> Answer:
    def answer(http: Answers) -> None:
        http.protocol_version = "HTTP/1.1"
        http.start(Transfer_Encoding="chunked")
        http.wfile.write(f"{len(content):x}\r\n".encode() + content[: len(content) // 2 if cut else None])
        if not cut:
            http.wfile.write(b"\r\n0\r\n\r\n")

    return answer


def status(code: int, text: str = "") -> Answer:
    def answer(http: Answers) -> None:
        http.send_response(code, text or None)
        http.send_header("Content-Length", "0")
        http.end_headers()

    return answer


def redirect(to: str, code: int = 302) -> Answer:
    return lambda http: http.start(code, Location=to, Content_Length=0)


def page(kind: str = "text/html; charset=utf-8") -> Answer:
    text = b"<!DOCTYPE html><title>Log in</title>"
    return lambda http: (http.start(Content_Type=kind, Content_Length=len(text)), http.wfile.write(text))


def slow(http: Answers) -> None:
    http.start(Content_Length=10_000_000, ETag='"slow"')
    while not http.server.released.wait(0.02):
        http.wfile.write(b"x")


def silent(http: Answers) -> None:
    http.server.released.wait(60)


def endless(http: Answers) -> None:
    http.start()
    while not http.server.released.is_set():
        http.wfile.write(b"x" * 2**20)


@contextlib.contextmanager
def served() -> Iterator[Server]:
    made = Server()
    threading.Thread(target=made.serve_forever, daemon=True).start()
    try:
        yield made
    finally:
        made.released.set()
        made.shutdown()
        made.server_close()
