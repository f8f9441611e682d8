"""What every room may ask: what a setting is, and one row of facts for each thing to choose."""
