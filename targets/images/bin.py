"""Raw binary: the bytes from the first address to the last. It does not say where they belong."""

from __future__ import annotations

from targets.images.segments import Segment, flatten


def encode(segments: tuple[Segment, ...]) -> bytes:
    """The image from its lowest address on; gaps are as erased flash."""
    return flatten(segments).data
