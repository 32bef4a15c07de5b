"""thumbnet: ONNX in, verified firmware for Arm Cortex-M out.

import thumbnet as tn

model = tn.compile("kws.onnx", target="nucleo-l4r5zi", calib=x)
print(model.emulate(x).latency_ms)
"""

from codegen import __version__
from targets.errors import ThumbnetError
from thumbnet.api import Emulation, Model, compile

__all__ = ["Emulation", "Model", "ThumbnetError", "__version__", "compile"]
