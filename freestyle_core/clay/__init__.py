"""The embedded models' world: procedural heads, named styles, and the scripts that train on them.

`heads.py` says what a head is, `styles.py` how words change it, `render.py` draws it, `data.py`
writes the data sets, and the `train_*.py` scripts make the weights under `assets/clay`.
"""
