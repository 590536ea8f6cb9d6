"""The parts of bench/run, in the order in which they are used:

build     installs and builds the servers
servers   which servers there are and how each is started
measure   scenarios, rounds, and what is taken of them
web       the same behind Apache and nginx
report    RESULTS.md and the picture
"""
