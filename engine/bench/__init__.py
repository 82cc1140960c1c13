"""python -m engine bench: what a profile costs here, warm and cold, and whether a change made a difference.

READ FIRST: `measure.py`. `input.py` makes the frames, `compare.py` judges two files, `each_option.py` one option at a
time, `command.py` is the command.
"""
