"""The evaluation protocol of the URL benchmark (arXiv 2307.03810, section 3), one concept a file.

From arrays: :func:`training.evaluation.protocol.evaluate_arrays`. From a model and folders: :mod:`training.evaluate`.
"""
