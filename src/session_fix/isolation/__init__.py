"""Private databases at the speed of the machine: ready before they are asked for, recycled where that is provable.

``private.py`` lends databases and takes them back, from a pool for each state (``pool.py``; ``sizing.py`` says how many
to have ready). ``recycling.py`` empties one for the next test: ``facts.py`` reads what a test may have left,
``traces.py`` judges it. ``sessions.py`` does the same for the open connection, ``server_state.py`` for the server.
``tasks.py`` is how all of it goes on between the tests, ``summary.py`` what is said of it at the end; ``shared.py`` is
for tests that ask to share a database.
"""
