"""One module for each page: it asks what the page shows, and its template shows it.

It knows no cookie and no header.
"""
