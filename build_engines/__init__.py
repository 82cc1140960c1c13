"""Offline: ONNX models into TensorRT plans. Never imported by the runtime."""

import models  # noqa: F401 - first: it keeps ONNX Runtime off the network
