"""Many portraits: jobs of a file, made by several processes, cards or machines into one folder."""
