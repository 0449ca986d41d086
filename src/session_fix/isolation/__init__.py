"""Private databases at the speed of the machine: ready before they are asked for, recycled where that is provable.

``pool.py`` hands out and takes back; ``sizing.py`` says how many to have ready; ``recycling.py`` empties a database for
the next test; ``facts.py`` reads what a test may have left, and ``traces.py`` judges it (both are pure).
"""
