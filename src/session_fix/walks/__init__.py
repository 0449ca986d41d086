"""Random walks through a service: many steps in any order, and a look into the database after each.

``steps`` and ``model`` decide, ``walk`` and ``world`` perform, ``search`` draws the walks and shortens what fails.
"""
