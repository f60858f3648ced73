"""Processes, sockets and deadlines: what brings bytes to the endpoints and their replies back.

It knows nothing of questions, decisions and databases.
"""
