"""Style packs: a style as a small file that restyles any head of a generator in one pass."""
