"""What a job of the kind "embed" does. Other kinds have their function beside what they call, see pvu.jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pvu.jobs import DEMO
from pvu.progress import Progress, ProgressCallback


def embed_images(
    arguments: dict[str, Any], progress: ProgressCallback, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    """Embed a folder of images, or the demo data set, which is made first if it is not there.

    Args:
        arguments: source, model, table, as :func:`pvu.pipeline.embed` takes them; DEMO stands for the demo's folder.
        progress: gets a Progress often.
        should_stop: asked after every batch.

    Returns:
        ``store``, the path of the store.

    Raises:
        PVUError: as :func:`pvu.pipeline.embed`.
    """
    source = arguments["source"]
    if source == DEMO:
        progress(Progress("demo"))
        from pvu.demo import make_demo

        source = make_demo()
    from pvu.pipeline import embed

    dataset = embed(
        source, model=arguments["model"], table=arguments["table"], progress=progress, should_stop=should_stop
    )
    return {"store": str(dataset.path)}
