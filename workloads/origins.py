"""Where what is not ours comes from: the installed package, by its entry points. What is ours has no origin."""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points

__all__ = ["GROUPS", "origin_of", "package_of"]

GROUPS = ("moemark.targets", "moemark.workloads", "moemark.implementations", "moemark.models")


def origin_of(module: str) -> str | None:
    """`package version` of the one whose entry points name this module or another of its top-level package; None for ours."""
    return _packages().get(_top(module))


@cache
def _packages() -> dict[str, str]:
    """Top-level package → the distribution that brings it, of all that add to us."""
    every = entry_points()
    return {_top(entry.module): package_of(entry) for group in GROUPS for entry in every.select(group=group)}


def _top(module: str) -> str:
    return module.partition(".")[0]


def package_of(entry: EntryPoint) -> str:
    """`package version` of an entry point; its value where it belongs to none."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
