"""A photograph becomes what a generator's own pictures are: a face found, a crop, a camera."""
