"""JSON in and out, shapes, ids and e-mail addresses: what every room reads and writes.

It knows nothing of decisions, plans or HTTP, and imports nothing of ours but the errors.
"""
