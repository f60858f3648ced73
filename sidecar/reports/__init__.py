"""Reports that `sidecar audit` and the console both make, each from a database, an engine and a log.

It must not know how a report is shown, nor options of commands, cookies or pages.
"""
