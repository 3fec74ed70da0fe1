"""FreeStyle 3D portraits: from a line of text to a stylised, 3D-consistent head.

Read `pipeline.py` first: it joins the verbs (sample, render, stylize, finetune, mix, mesh) that the
other modules define, each a plain function over the records in `types.py`.
"""

__version__ = "0.1.0"
