device, cpu = "cuda", "cpu"  # where the pretended models are said to be
collected = []  # one entry for each time that memory was given back


def torch_gc():
    collected.append(True)
