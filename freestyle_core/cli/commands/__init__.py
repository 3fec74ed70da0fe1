"""What each command of the command line does: `run(args)` of the module with its name.

Every command checks its settings, then that its output can be written, and only then starts work.
"""
