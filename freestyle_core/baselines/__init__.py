"""Other ways to the same pictures, to measure this program against. Read `protocol.py`."""
