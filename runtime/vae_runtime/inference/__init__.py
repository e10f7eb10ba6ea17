"""onnxruntime sessions: devices, batches, interruption, diagnosis."""
