"""ONNX in, C out: importer, passes, quantizer, planner, emitter. docs/architecture.md tells the flow."""

__version__ = "0.1.0"
