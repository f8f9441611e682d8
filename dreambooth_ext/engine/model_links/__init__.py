"""What is behind a link to a model: name, size, hash and licence, before anything but these is fetched."""
