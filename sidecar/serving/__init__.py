"""Processes, sockets and deadlines: what brings bytes to the endpoints and their replies back.

It joins the parts, and decides nothing.
"""
