"""Charts as SVG, for pages and files that load nothing."""
