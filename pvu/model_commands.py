"""The commands that deal with models rather than with images: list them, take one in, give one out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pvu.paths import typed_path
from pvu.terminal import JsonOption, print_json, quiet_stdout, require_folder


def list_models(as_json: JsonOption = False) -> None:
    """List the models, and which of them can be used right now."""
    from pvu.registry import DEFAULT, REGISTRY, availability, resolve

    rows = []
    for name in REGISTRY:
        spec = resolve(name)
        available, reason = availability(spec)
        head = spec.head.name if spec.head is not None and spec.head.is_file() else None
        rows.append(
            {"name": name, "backbone": spec.architecture, "head": head, "available": available, "reason": reason}
        )
    if as_json:
        print_json(rows)
        return
    for row in rows:
        ready = "ready, the default" if row["name"] == DEFAULT else "ready"
        print(f"{row['name']:36}{ready if row['available'] else row['reason']}")
        print(f"{'':36}{'with an uncertainty head' if row['head'] else 'no uncertainty head: embeddings only'}")


def import_checkpoint(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A .pth.tar of the paper's authors.")],
    as_json: JsonOption = False,
) -> None:
    """Take the backbone and uncertainty head out of a checkpoint of the paper's authors, and keep them as a model."""
    from pvu.importing import import_checkpoint as take

    with quiet_stdout():
        model = take(typed_path(file))
    if as_json:
        print_json({"model": model.name, "weights": model.weights, "head": model.head})
        return
    print(f"Weights: {model.weights}\nHead: {model.head}\nUse it with --model '{model.name}'")


def export_onnx(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The .onnx file to write.")],
    model: Annotated[str, typer.Option(help="A model's name, see the command models.")] = "default",
    as_json: JsonOption = False,
) -> None:
    """Write a model with its head to an ONNX file: uint8 pixels in, representation z and uncertainty u out."""
    out = typed_path(out)
    require_folder(out)
    from pvu.models import load_model
    from pvu.onnx_export import export_onnx as write

    with quiet_stdout():
        loaded = load_model(model, precision="float32", device="cpu")
        write(loaded, out)
    outputs = ["z"] if loaded.head is None else ["z", "u"]
    if as_json:
        print_json({"file": str(out), "model": loaded.name, "size": loaded.preprocessing.size, "outputs": outputs})
        return
    how = loaded.preprocessing
    print(
        f"{out}: pixels (B, {how.size}, {how.size}, 3) uint8 -> {', '.join(outputs)}\n"
        f"Scale the short side to {round(how.size / how.crop_pct)} ({how.interpolation}) and crop the centre first."
    )
