"""Models and data sets from the internet, resumable and by content."""
