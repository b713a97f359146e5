"""The on-disk result of a run: one directory a (data set, model) pair. Where stores lie is catalog.py's business."""

from __future__ import annotations

import math
import os
import zipfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from pvu.catalog import MANIFEST, find_stores, finish_commit, read_manifest
from pvu.errors import QueryError, StoreError
from pvu.paths import typed_path
from pvu.reference import as_quantiles, percentile_among, quantiles_of

if TYPE_CHECKING:
    from pvu.clusters import Clusters
    from pvu.index import SearchIndex
    from pvu.models import Model

WARN_ABOVE = 80
"""Percentile from which a query is called uncertain: the paper's Pets experiment keeps the most certain 80 to 90 %."""
BROUGHT = "brought embeddings"
"""The model's name in the store of embeddings that somebody else has computed, see bring.py."""
Query = int | np.integer | str | os.PathLike[str] | Image.Image | np.ndarray
Queries = Query | list[Query] | tuple[Query, ...]


class EmbeddedDataset:
    """The images of a folder with an embedding, an uncertainty, neighbours and a place on the map each.

    Rows are in one order everywhere: row i of ``images``, ``embeddings``, ``uncertainty``, ``labels``, ``coords`` and
    ``neighbors`` is the same image.

    Everything is opened at once: a run that replaces the store later does not change what is open.

    Args:
        path: a store's directory.

    Raises:
        StoreError: if there is no complete store at the path, or another version of pvu wrote it.
    """

    images: pd.DataFrame
    failed: pd.DataFrame
    embeddings: np.ndarray
    """(N, D) float16, memory-mapped."""
    coords: np.ndarray
    """(N, 2) float32: each image's place on the UMAP map."""
    neighbors: np.ndarray
    """(N, k) int32: rows of the nearest other images, nearest first."""
    similarities: np.ndarray
    """(N, k) float32: the cosines that belong to ``neighbors``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        while True:
            self.manifest = read_manifest(path)
            damage = self._open_files()
            if read_manifest(path) == self.manifest:
                break  # else a run has put a newer store in its place meanwhile
        if damage is None and len(self.embeddings) != len(self.images):
            damage = f"{len(self.images)} images, {len(self.embeddings)} embeddings"
        if damage is not None:
            raise StoreError(f"The store {path} is damaged: {damage}. Delete it and embed the folder again.")

    def _open_files(self) -> str | None:
        """Open everything but the manifest; says what is wrong if that fails."""
        try:
            table = pd.read_parquet(self.path / "images.parquet")
            ok = table["status"] == "ok"
            self.images = table[ok].drop(columns=["status", "error"]).reset_index(drop=True)
            self.failed = table.loc[~ok, ["path", "error"]].reset_index(drop=True)
            self.embeddings = np.load(self.path / "embeddings.npy", mmap_mode="r")
            self.coords = np.load(self.path / "umap.npy")
            with np.load(self.path / "neighbors.npz") as graph:
                self.neighbors, self.similarities = graph["indices"], graph["similarities"]
            self._assignment = np.load(file) if (file := self.path / "clusters.npy").exists() else None
            thumbs = self.path / "thumbs.bin"
            self._thumbs = np.memmap(thumbs, np.uint8, mode="r") if thumbs.stat().st_size else np.empty(0, np.uint8)
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, pa.ArrowException) as error:
            return str(error)
        return None

    @classmethod
    def open(cls, dataset: str | os.PathLike[str], *, model: str | None = None) -> Self:
        """Open a store, or the newest store of a folder that was embedded.

        Args:
            dataset: a store's directory, or the folder (or .zip) of images.
            model: only a store made with this model.

        Raises:
            StoreError: if there is none, with the command that makes it.
        """
        path = typed_path(dataset)
        finish_commit(path)
        if (path / MANIFEST).is_file():
            return cls(path)
        found = find_stores(path, model=model)
        if not found:
            raise StoreError(
                f"{path} is neither a store nor a folder that was embedded"
                + (f" with {model}" if model else "")
                + f". Make it first: python -m pvu embed {path}"
            )
        return cls(found[0])

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"EmbeddedDataset({self.name!r}, {len(self)} images, model={self.manifest['model']!r})"

    @property
    def name(self) -> str:
        """What to call it: the folder's name."""
        return str(self.manifest["name"])

    @property
    def source(self) -> Path:
        """The folder of the original images."""
        return Path(self.manifest["source"])

    @property
    def version(self) -> str:
        """A string that changes whenever the content does: the key of every cache made from it."""
        return f"{self.path.name}-{self.manifest['created']}"

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """(N,) float32, > 0; NaN throughout if the model has no head."""
        return self.images["uncertainty"].to_numpy(np.float32)

    @property
    def has_uncertainty(self) -> bool:
        """Whether the model has an uncertainty head."""
        return bool(self.manifest["has_head"])

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) object: str, or None where an image has no label."""
        return np.array([None if pd.isna(label) else label for label in self.images["label"]], dtype=object)

    @property
    def has_labels(self) -> bool:
        """Whether at least two labels occur."""
        return len({label for label in self.labels if label is not None}) > 1

    @property
    def metadata_columns(self) -> list[str]:
        """The columns that came from the user's table."""
        return list(self.manifest["metadata_columns"])

    @cached_property
    def percentiles(self) -> np.ndarray:
        """(N,) float32 in [0, 100]: the share of this data set that is at most as uncertain as each image."""
        return self.percentile(self.uncertainty)

    @cached_property
    def _sorted_uncertainty(self) -> np.ndarray:
        return np.sort(self.uncertainty)

    def percentile(self, uncertainty: Any) -> Any:
        """The share, in percent, of this data set that is at most as uncertain as given values (any shape)."""
        rank = np.searchsorted(self._sorted_uncertainty, uncertainty, side="right")
        return (100 * rank / max(len(self), 1)).astype(np.float32)

    @cached_property
    def reference_quantiles(self) -> np.ndarray | None:
        """(101,) float64: u at the percentiles 0 to 100 of the pictures that the head was measured on; None if unknown.

        A store that was made before stores kept them has them from its head's file, as long as that is the same head.
        """
        if "reference_quantiles" in self.manifest:
            return as_quantiles(self.manifest["reference_quantiles"])
        return quantiles_of(self.manifest["model"], self.manifest["fingerprint"]) if self.has_uncertainty else None

    def reference_percentile(self, uncertainty: Any) -> np.ndarray:
        """The share, in percent, of the head's reference pictures that is at most as uncertain as given values.

        They are the same for every data set of a model, so that two data sets can be compared by it.

        Args:
            uncertainty: u, any shape.

        Returns:
            float32 in [0, 100] of that shape; NaN where u is NaN, and throughout if the head does not say.
        """
        return percentile_among(self.reference_quantiles, uncertainty)

    def threshold(self, keep: float) -> float:
        """The uncertainty up to which the most certain share of the images lies.

        Args:
            keep: in (0, 1]; 0.9 hides the most uncertain tenth.

        Raises:
            ValueError: if keep is not in (0, 1].
            QueryError: if the model has no head.
        """
        if not 0 < keep <= 1:
            raise ValueError(f"keep must be above 0 and at most 1, got {keep}.")
        self.require_uncertainty()
        # Rounded: 1 - 0.7 is a little above 0.3, and must not keep one image more.
        kept = max(1, math.ceil(round(keep * len(self), 6)))
        return float(self._sorted_uncertainty[kept - 1])

    def require_uncertainty(self) -> None:
        """Raises QueryError, with the way out, if the model has no head."""
        if not self.has_uncertainty and not self.has_encoder:
            raise QueryError(
                f"The embeddings of {self.name} were brought without uncertainties, so nothing can be filtered by "
                "uncertainty. Bring them again with a column named uncertainty, or let a model look at the images."
            )
        if not self.has_uncertainty:
            raise QueryError(
                f"The model {self.manifest['model']} has no uncertainty head, so nothing can be filtered by "
                "uncertainty. Embed with the default model, or fit a head for this one to labelled images: the page "
                "Train, or python -m pvu fit."
            )

    @property
    def has_encoder(self) -> bool:
        """Whether new pictures can be embedded: not where the embeddings were brought."""
        return self.manifest["model"] != BROUGHT

    def image_path(self, row: int) -> Path:
        """The original image file of a row."""
        return self.source / str(self.images["path"].iloc[row])

    def thumbnail(self, row: int) -> bytes:
        """The JPEG thumbnail of a row."""
        offset, size = (int(self.images[column].iloc[row]) for column in ("thumb_offset", "thumb_bytes"))
        return self._thumbs[offset : offset + size].tobytes()

    @cached_property
    def model(self) -> Model:
        """The model that made this store, loaded on first use.

        Raises:
            StoreError: if the model of that name has other weights now, or the embeddings were brought.
        """
        if not self.has_encoder:
            raise StoreError(
                f"The embeddings of {self.name} were brought, not made here, so no new picture can be compared with "
                "them. Search with one of its own images."
            )
        from pvu.models import load_model

        model = load_model(self.manifest["model"])
        if model.fingerprint != self.manifest["fingerprint"]:
            raise StoreError(
                f"The weights or the head of {model.name} have changed since {self.name} was embedded, so a new "
                f"picture cannot be compared with it. Embed it again: python -m pvu embed {self.source}"
            )
        return model

    @cached_property
    def clusters(self) -> Clusters:
        """Groups of images that lie together on the map; found on first use where the store was made without them."""
        from pvu.clusters import Clusters, describe_clusters, find_clusters

        stored = self._assignment
        assignment = find_clusters(self.coords) if stored is None or len(stored) != len(self) else stored
        table = describe_clusters(
            assignment,
            labels=self.labels,
            paths=self.images["path"].tolist(),
            uncertainty=self.uncertainty,
            percentiles=self.percentiles if self.has_uncertainty else self.uncertainty,  # NaN without a head
        )
        return Clusters(assignment, table)

    @cached_property
    def index(self) -> SearchIndex:
        """The search index over all images, built on first use."""
        from pvu.index import SearchIndex

        return SearchIndex(self.embeddings)

    def find_row(self, query: str | os.PathLike[str]) -> int | None:
        """The row of an image of this set, by its relative path or the path of its file; None if it is not in it."""
        rows: dict[str, int] = self._row_of_path
        text = os.fspath(query)
        if text in rows:
            return rows[text]
        path = Path(os.path.realpath(typed_path(query)))  # unlike resolve(), it takes links that lead in a circle
        return rows.get(path.relative_to(self.source).as_posix()) if path.is_relative_to(self.source) else None

    @cached_property
    def _row_of_path(self) -> dict[str, int]:
        return {path: row for row, path in enumerate(self.images["path"])}

    def encode_query(self, query: Query) -> tuple[np.ndarray, float, int | None]:
        """What a query is to the search.

        Args:
            query: a row, a path (of an image of the set, or any image file), a picture, or a vector (D,).

        Returns:
            The vector (D,) float32, its uncertainty (NaN if unknown), and its row if it is in the set.

        Raises:
            QueryError: if there is no such row or file, or the vector has another length.
            BadImageError: if the file is not an image.
        """
        if isinstance(query, np.ndarray):
            if query.shape != (self.embeddings.shape[1],):
                raise QueryError(f"A query vector needs the shape ({self.embeddings.shape[1]},), got {query.shape}.")
            return query.astype(np.float32), float("nan"), None
        if isinstance(query, Image.Image):
            return self._encode_picture(query)
        row = int(query) if isinstance(query, int | np.integer) else self.find_row(query)
        if row is None:
            return self._encode_picture(_read_picture(typed_path(query)))  # type: ignore[arg-type]
        if not 0 <= row < len(self):
            raise QueryError(f"There is no row {row}: {self.name} has the rows 0 to {len(self) - 1}.")
        return np.asarray(self.embeddings[row], np.float32), float(self.uncertainty[row]), row

    def _encode_picture(self, picture: Image.Image) -> tuple[np.ndarray, float, None]:
        z, u = self.model.encode([picture])
        return z[0], float(u[0]) if u is not None else float("nan"), None

    def encode_queries(self, queries: Queries) -> tuple[np.ndarray, float, list[int]]:
        """As :meth:`encode_query`, for one query or a list: then the mean of their normalised embeddings.

        Returns:
            The vector (D,) float32, the highest uncertainty (NaN if one is unknown), the rows of those in the set.
        """
        from pvu.neighbors import normalized

        if not isinstance(queries, list | tuple):
            vector, uncertainty, row = self.encode_query(queries)
            return vector, uncertainty, [] if row is None else [row]
        if not queries:
            raise QueryError("There is nothing to search with. Give at least one image.")
        vectors, uncertainties, rows = zip(*map(self.encode_query, queries), strict=True)
        mean = normalized(np.stack(vectors)).mean(axis=0)
        return mean, float(np.max(uncertainties)), [row for row in rows if row is not None]

    def search(
        self,
        query: Queries,
        k: int = 10,
        *,
        max_uncertainty: float | None = None,
        allowed: np.ndarray | None = None,
        min_similarity: float | None = None,
    ) -> pd.DataFrame:
        """The k images most similar to a query, or to several together, leaving the queries themselves out.
        Filters inside the index: k images come back whenever k pass.

        Args:
            query: see :meth:`encode_query`; a list of them searches with the mean of their normalised embeddings.
            k: at least 1.
            max_uncertainty: only images with at most this uncertainty.
            allowed: (N,) bool, only these images.
            min_similarity: only images with at least this cosine to the query.

        Returns:
            ``row, path, similarity, uncertainty, label``, most similar first; similarity is the cosine.

        Raises:
            QueryError: if the query is unusable, k < 1, or uncertainty is asked for and there is none.
        """
        vector, _, own = self.encode_queries(query)
        mask = np.ones(len(self), bool) if allowed is None else np.array(allowed, dtype=bool)
        if mask.shape != (len(self),):
            raise QueryError(f"allowed needs the shape ({len(self)},), got {mask.shape}.")
        if max_uncertainty is not None:
            self.require_uncertainty()
            mask &= self.uncertainty <= max_uncertainty
        mask[own] = False
        rows, similarities = self.index.search(vector, k, allowed=None if mask.all() else mask)
        if min_similarity is not None:
            rows, similarities = rows[similarities >= min_similarity], similarities[similarities >= min_similarity]
        return pd.DataFrame(
            {
                "row": rows,
                "path": self.images["path"].to_numpy()[rows],
                "similarity": similarities,
                "uncertainty": self.uncertainty[rows],
                "label": pd.Series(self.labels[rows], dtype=object),  # else pandas makes NaN of None
            }
        )


def _read_picture(path: Path) -> Image.Image:
    from pvu.images import open_rgb, read_bytes

    if not path.is_file():
        raise QueryError(f"There is no image at {path}. Give a row number, a path in the data set, or an image file.")
    return open_rgb(read_bytes(path))[0]
