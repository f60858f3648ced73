"""Policies: checked, compiled to data, bundled and loaded, ours and those of another domain.

It does not evaluate them (engines does), and does not know who asks.
"""
