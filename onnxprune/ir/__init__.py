"""Load, inspect, edit, run and save models: the seam to onnx and onnxruntime."""
