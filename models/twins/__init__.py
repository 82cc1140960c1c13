"""Twins: published topology and cost with seeded random weights, as ONNX files in the user's cache.

Random weights: for cost and tests only. A twin says what a network costs and which numbers its arithmetic meets; it
draws no face, finds none and drives no mouth. READ FIRST: `registry.py`, the table of all of them.
"""

from models.twins.builder import NOTICE, TwinError
from models.twins.registry import TWINS, Count, Twin, count_twin, twin_names, write_twin

__all__ = ["NOTICE", "TWINS", "Count", "Twin", "TwinError", "count_twin", "twin_names", "write_twin"]
