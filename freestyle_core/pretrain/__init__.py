"""Pre-training an I2T for a generator (eq. 4): `train.py` trains, `run.py` keeps the files."""
