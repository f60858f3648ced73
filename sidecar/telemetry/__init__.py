"""What is counted, timed and logged.

It does not decide anything, and no label of a metric holds what a caller sends.
"""
