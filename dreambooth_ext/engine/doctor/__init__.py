"""The picture doctor: says of each picture, and of the set, what will harm training, and what to do about it."""
