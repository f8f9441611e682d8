"""Pictures and captions as files: found, named, divided and noted, without opening a picture."""
