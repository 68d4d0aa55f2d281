"""One conformance suite for all tiers of isolation: attacks and bombs as jobs, and what each tier has to make of them.

`attacks` runs inside a job; `bait` is what it tries to get; `driver` puts it out, runs the jobs and judges from outside.
"""
