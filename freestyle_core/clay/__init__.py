"""The embedded models' world: procedural heads, named styles, and the scripts that train on them.

`heads/` says what a head is, `styles/` how words change it, `draw.py` makes pictures of it, `data/`
writes the data sets, and the scripts of `train/` make the weights under `assets/clay`.
"""
