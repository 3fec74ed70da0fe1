"""The measures of `bench`: what is compared (`stages.py`), how (`meter.py`), and the report."""
