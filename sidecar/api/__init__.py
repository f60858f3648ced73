"""From a request to a reply: endpoints, their documents and their problems, for every protocol.

It does not know sockets, processes or threads (serving does), nor SQL.
"""
