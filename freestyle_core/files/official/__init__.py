"""Official EG3D pickles, read as data: nothing inside them is ever run."""
