"""Users' own checkpoints become the ONNX files that contracts describe; needs the extra "train" (PyTorch).

READ FIRST: `topologies.py`, the table of what can be converted. Reading the table, comparing names and every refusal
need no PyTorch.
"""

from models.convert.errors import ConvertError
from models.convert.run import Converted, convert
from models.convert.topologies import PARTS, TOPOLOGIES

__all__ = ["PARTS", "TOPOLOGIES", "ConvertError", "Converted", "convert"]
