"""Reproduces the pretraining of an uncertainty head. Imports pvu; pvu never imports this package."""
