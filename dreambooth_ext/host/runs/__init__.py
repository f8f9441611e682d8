"""What the tab and the API show of runs: all of them described, their events in pages, their curves."""
