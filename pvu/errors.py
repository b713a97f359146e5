"""Errors whose message a person can act on: what was found, what was expected, what to do."""


class PVUError(Exception):
    """Base of every error that pvu raises on purpose. The message is shown to the user as it is."""


class SourceError(PVUError):
    """A folder, archive or table of images cannot be used."""


class BadImageError(PVUError):
    """One image cannot be decoded. The pipeline lists it and goes on."""


class ModelError(PVUError):
    """A model is unknown, or its weights cannot be had."""


class CheckpointError(PVUError):
    """A weights file is not what it should be."""


class StoreError(PVUError):
    """A store cannot be opened, or belongs to something else."""


class QueryError(PVUError):
    """A search was asked for something that cannot be searched."""


class Cancelled(PVUError):  # noqa: N818 (a decision, not an error)
    """The user cancelled a run. What was finished is kept."""


class FitError(PVUError):
    """No uncertainty head can be fitted, or the one that was is of no use."""
