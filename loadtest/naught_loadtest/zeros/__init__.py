"""What zeros that stay in a map cost in Python: the parts of `naught-loadtest zeros`.

    command   the command: what is started, in which order
    trial     one process that measures one way of counting
    maps      the ways of counting
    table     the figures, and their layout
    claims    the article's claims, and what the figures say to them

Nothing is imported here: a trial is run as a module of this package, which must not have been imported before.
"""
