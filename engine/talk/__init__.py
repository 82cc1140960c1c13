"""Running lip-sync: a prepared template and a sound to a video that says it, from files or live.

sound       sound.py       the driving sound, from wherever it comes; track.py: the output's copy of it
  -> steps  plan.py        which template frame comes next, and how much of its mouth is moved
  -> files  file_run.py    every frame in order; decode, compute and encode overlapped
     live   line.py        pushed sound and silence on one line of samples, paced by the sound itself
            lipsync.py     the object that a host pushes sound into and takes frames from
            live_run.py    a pipe, microphone or address through it into an output
files.py opens all of that for a profile; origin.py is what an output is told of where it came from.
"""
