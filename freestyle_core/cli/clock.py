"""When this process began, as far as a program can tell: the start of a time budget."""

import time

STARTED = time.perf_counter()
