"""Cores and boards as data, the tools that build for them, and the protocol of a machine."""

from targets.target import Core, Region, Target, load, names

__all__ = ["Core", "Region", "Target", "load", "names"]
