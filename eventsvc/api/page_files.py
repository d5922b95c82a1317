"""GET / and GET /page/{name}: the web page, bundled in eventsvc/page/dist, which uses the public API only."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import falcon

if TYPE_CHECKING:
    from falcon.asgi import App, Request, Response

_FOLDER = Path(__file__).parent.parent / "page" / "dist"
_INDEX = "index.html"

# SECURITY: events hold texts of strangers. If such a text ever became markup, the policy would keep its scripts and
# styles from running, and nothing could be sent to another place than this service.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}
_FOR_EVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True, slots=True)
class _File:
    media_type: str
    plain: bytes
    packed: bytes
    etag: str


class PageFiles:
    """The resources of ``/``, the page, and of ``/page/{name}``, the files that the page loads."""

    def __init__(self, folder: Path = _FOLDER) -> None:
        self._files = {path.name: _read(path) for path in folder.iterdir()}

    def install(self, app: App[Request, Response]) -> None:
        """Add the routes."""
        app.add_route("/", self, suffix="page")
        app.add_route("/page/{name}", self)

    async def on_get_page(self, req: Request, resp: Response) -> None:
        """Answer with the page."""
        # A new version of the page names other files, so browsers must check each time.
        resp.set_header("Cache-Control", "no-cache")
        resp.set_header("Content-Security-Policy", _POLICY)
        resp.set_header("Referrer-Policy", "no-referrer")
        resp.set_header("Cross-Origin-Opener-Policy", "same-origin")
        _send(req, resp, self._files[_INDEX])

    async def on_get(self, req: Request, resp: Response, name: str) -> None:
        """Answer with a file of the page."""
        if name not in self._files or name == _INDEX:
            raise falcon.HTTPNotFound
        # A file without a hash in its name may change with the next version.
        resp.set_header("Cache-Control", _FOR_EVER if "-" in name else "no-cache")
        _send(req, resp, self._files[name])


def _read(path: Path) -> _File:
    plain = path.read_bytes()
    etag = f'"{hashlib.blake2b(plain, digest_size=12).hexdigest()}"'
    return _File(_TYPES[path.suffix], plain, gzip.compress(plain, mtime=0), etag)


def _send(req: Request, resp: Response, file: _File) -> None:
    resp.set_header("X-Content-Type-Options", "nosniff")
    resp.set_header("Vary", "Accept-Encoding")
    resp.set_header("ETag", file.etag)
    if file.etag in (req.get_header("If-None-Match") or ""):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = file.media_type
    packed = "gzip" in (req.get_header("Accept-Encoding") or "")
    resp.data = file.packed if packed else file.plain
    if packed:
        resp.set_header("Content-Encoding", "gzip")
