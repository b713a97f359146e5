"""Routes beside the app's pages: pictures, columns of the map and facts of open data sets, by integer row.

Nothing here takes a path. A data set has an address from when a page shows it, with a secret that this process drew,
and only that address leads to its pictures: neither another website nor another data set's page can guess it. No
header allows other websites to read what is sent.
"""

from __future__ import annotations

import gzip
import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plotly
import streamlit as st
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from pvu.coloring import coloring, grid, map_rows, percentile_steps
from pvu.errors import BadImageError
from pvu.images import open_rgb, read_bytes, thumbnail_bytes
from pvu.paths import is_allowed
from pvu.store import EmbeddedDataset

_OPEN_SETS = 4  # as many as state.py keeps open
FULL_SIZE = 1600
"""Pixels of a full picture's longer side, at the most."""
_PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
_HEADERS = {
    "Cache-Control": "private, max-age=86400, immutable",  # an address holds the version: what it gives never changes
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


class _Served:
    """An open data set, and what was packed of it for the browser already."""

    def __init__(self, dataset: EmbeddedDataset) -> None:
        self.dataset = dataset
        self.secret = secrets.token_urlsafe(16)
        self._packed: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def packed(self, key: str, make: Callable[[], np.ndarray]) -> bytes:
        """A column as gzipped little-endian bytes, made once; the longest unused is forgotten first."""
        with self._lock:
            if key not in self._packed:
                values = make()
                self._packed[key] = gzip.compress(values.astype(values.dtype.newbyteorder("<")).tobytes(), 1)
                while len(self._packed) > 16:
                    self._packed.popitem(last=False)
            self._packed.move_to_end(key)
            return self._packed[key]


class _Registry:
    """The data sets that pages have open, the longest unseen forgotten first."""

    def __init__(self) -> None:
        self._by_version: OrderedDict[str, _Served] = OrderedDict()
        self._lock = threading.Lock()

    def serve(self, dataset: EmbeddedDataset) -> _Served:
        with self._lock:
            served = self._by_version.get(dataset.version) or _Served(dataset)
            served.dataset = dataset  # it may have been opened anew: the object before need not be kept as well
            self._by_version[dataset.version] = served
            self._by_version.move_to_end(dataset.version)
            while len(self._by_version) > _OPEN_SETS:
                self._by_version.popitem(last=False)
        return served

    def find(self, secret: str) -> _Served | None:
        with self._lock:
            return next((served for served in self._by_version.values() if served.secret == secret), None)


_registry = _Registry()


def address(dataset: EmbeddedDataset) -> str:
    """Where the browser finds an open data set: ``ADDRESS/thumb/7``, ``/image/7``, ``/about/7``, ``/points``, ...

    Showing a data set opens it: call this in a page's run, and not before the user may see the pictures.
    """
    return f"{_base()}/pvu/{_registry.serve(dataset).secret}"


def plotly_address() -> str:
    """Where the browser finds the plotly.js that the plotly package ships."""
    return f"{_base()}/pvu/plotly-{plotly.__version__}.js"


def _base() -> str:
    path = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{path}" if path else ""


def full_picture(dataset: EmbeddedDataset, row: int) -> bytes:
    """A JPEG of the original, at most FULL_SIZE pixels wide and high; the thumbnail if the original is out of reach."""
    path = dataset.image_path(row)
    if is_allowed(path):  # the command line may have embedded a folder that the app may not read
        try:
            return thumbnail_bytes(open_rgb(read_bytes(path), at_least=FULL_SIZE)[0], FULL_SIZE)
        except BadImageError:  # it was moved, or damaged since
            pass
    return dataset.thumbnail(row)


def about(dataset: EmbeddedDataset, row: int) -> dict[str, Any]:
    """What the map says of an image under the pointer."""
    label = dataset.labels[row]
    known = dataset.has_uncertainty
    return {
        "path": str(dataset.images["path"].iloc[row]),
        "label": "" if label is None else str(label),
        "u": float(dataset.uncertainty[row]) if known else None,
        "percentile": float(dataset.percentiles[row]) if known else None,
    }


def _row_response(request: Request) -> Response:
    served = _registry.find(request.path_params["secret"])
    row = request.path_params["row"]
    if served is None or not 0 <= row < len(served.dataset):
        return _nothing()
    what = request.path_params["what"]
    if what == "about":
        return Response(json.dumps(about(served.dataset, row)), media_type="application/json", headers=_HEADERS)
    picture = {"thumb": EmbeddedDataset.thumbnail, "image": full_picture}.get(what)
    return _nothing() if picture is None else _picture(picture(served.dataset, row))


def _column_response(request: Request) -> Response:
    served = _registry.find(request.path_params["secret"])
    if served is None:
        return _nothing()
    dataset, what = served.dataset, request.path_params["what"]
    rows = map_rows(len(dataset))
    makers: dict[str, Callable[[], np.ndarray]] = {
        "points": lambda: grid(dataset.coords[rows])[0].T.copy(),
        "rows": lambda: rows,
        "percentiles": lambda: percentile_steps(dataset)[rows],
        "color": lambda: coloring(dataset, request.query_params.get("by", "")).values[rows],
    }
    if what not in makers:
        return _nothing()
    try:
        # The query holds the column's name, and a version where what it says can change.
        packed = served.packed(f"{what}?{request.url.query}", makers[what])
    except KeyError:
        return _nothing()
    headers = {**_HEADERS, "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    return Response(packed, media_type="application/octet-stream", headers=headers)


def _plotly_response(_: Request) -> Response:
    return FileResponse(_PLOTLY, media_type="text/javascript", headers=_HEADERS)


def _picture(data: bytes) -> Response:
    return Response(data, media_type="image/jpeg", headers=_HEADERS)


def _nothing() -> Response:
    return Response("Nothing is open at this address.", 404, {"Cache-Control": "no-store"}, "text/plain")


# Plain functions: Starlette runs them in threads, so that a large picture holds up nobody.
ROUTES = [
    Route(f"/pvu/plotly-{plotly.__version__}.js", _plotly_response),
    Route("/pvu/{secret:str}/{what:str}/{row:int}", _row_response),
    Route("/pvu/{secret:str}/{what:str}", _column_response),
]
