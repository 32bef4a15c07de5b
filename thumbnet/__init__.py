"""thumbnet: ONNX in, verified firmware for Arm Cortex-M out."""

from codegen import __version__

__all__ = ["__version__"]
