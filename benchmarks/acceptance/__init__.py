"""Which acceptance rule ends with the best classifier? A simulation of whole runs, in which the truth is known."""
