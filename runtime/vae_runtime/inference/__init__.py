"""Run graphs in onnxruntime: sessions, devices, batches, interruption, diagnosis."""
