"""What can be given to each command of the command line. Read `parser.py`."""
