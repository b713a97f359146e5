"""Experiments behind choices that the configurations make."""
