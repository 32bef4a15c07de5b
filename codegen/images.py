"""Channel-first tensors of ONNX as images `(1, H, W, C)`, and back."""

from __future__ import annotations

from codegen.build import Builder, OnnxNode
from codegen.ops.reshape import reshape
from codegen.ops.transpose import channels_first, channels_last


def to_image(node: OnnxNode, b: Builder, name: str) -> str:
    """A channel-first tensor of ONNX as an image; a rank-3 one gets a single row."""
    if b.rank(name) not in (3, 4):
        raise node.unsupported(f"{b.rank(name)} axes; only 1-D and 2-D are supported")
    image = channels_last(b, name, node.sources)
    if b.rank(image) == 4:
        return image
    _, width, channels = b.shape(image)
    return reshape(b, image, (1, 1, width, channels), node.sources)


def from_image(node: OnnxNode, b: Builder, image: str, rank: int) -> str:
    """An image as the channel-first tensor of the given rank that ONNX expects."""
    if rank == 3:
        _, _, width, channels = b.shape(image)
        image = reshape(b, image, (1, width, channels), node.sources)
    return channels_first(b, image, node.sources)
