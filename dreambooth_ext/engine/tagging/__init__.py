"""Models that look at pictures and propose captions: taggers in ONNX, and transformers' captioners."""
