"""Opens and looks at picture files, with Pillow, numpy and OpenCV; never imports PyTorch, so that it starts at once."""
