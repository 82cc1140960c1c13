"""The recording twin of the driver seam: no GPU, real host memory, every call written down and checked for races.

`RecordingDriver` runs each kernel on the CPU when its stream would have reached it at the earliest, so that values
are right; `Races` keeps what happened before what; `accesses` says what a kernel reads and writes.
"""
