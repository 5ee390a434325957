"""Studies: trials with ids, durable results, resumption bit for bit, several workers.

May import `search`, `storage`, `report` and the layers below them.
"""
