"""``pmap demo``: the whole system at work, and a host that is caught.

The demo is a client's program: it runs the host through its command line, as a process of its own, and imports
nothing of it. :mod:`client.demo.scenario` is the story, :mod:`client.demo.expectations` says what has to come out.
"""
