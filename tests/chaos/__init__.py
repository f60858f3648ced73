"""Faults between and in the processes: a short run in the suite, a long one by `make chaos`."""
