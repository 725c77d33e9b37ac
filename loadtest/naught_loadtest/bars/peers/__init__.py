"""Programs that call one client library as fast as it goes, each run as a process of its own by the bars.

The libraries are no dependencies of naught: a program whose library is missing ends with status 77. Nothing else in
naught imports these modules.
"""
