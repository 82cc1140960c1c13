"""What a run or a benchmark tells of itself: samples of the machine, summary, report, trace, metrics.

READ FIRST: `session.py`, the one thing that a command opens. Nothing here is loaded until somebody asks for it.
"""
