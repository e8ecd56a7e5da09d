"""The seam to onnx and onnxruntime: load, look, edit, infer, run, save."""
