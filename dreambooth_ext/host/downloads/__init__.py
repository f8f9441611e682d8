"""Downloads of models by link: looked up, fetched one after another, and kept on the disk until they are dismissed."""
