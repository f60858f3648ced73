"""Rego as a tree: read without an engine, so that names in it can be compared with a catalog.

It knows the grammar of Rego 1 and nothing of what a policy means.
"""
