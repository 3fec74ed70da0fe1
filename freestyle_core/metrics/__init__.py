"""Numbers about images; networks are passed in."""
