"""plans.yaml becomes a Catalog: read with every mistake in its place, checked, and matched against routes.

It does not know Rego, the database or HTTP.
"""
