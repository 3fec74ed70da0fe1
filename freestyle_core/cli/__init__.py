"""The command line: what each command does, its files, bars and devices."""
