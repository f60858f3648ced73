"""The console: pages at /console where people look at what the API and `sidecar audit` say.

It must not know SQL, sockets, or a rule of its own: a page asks the function behind an endpoint or a report.
"""
