"""Pictures and captions as files: finding, naming, splitting and recording them, without opening a picture."""
