"""What auditors ask of policies: decision cases, and how they turn out.

It is pure: engines come by ports, and it does not know the database.
"""
