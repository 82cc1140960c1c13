"""Rewrites of a model's graph: each a function graph -> number of places rewritten. surgery.py says in what order."""
