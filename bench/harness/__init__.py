"""The parts of bench/run, in the order in which they are used:

build     installs and builds the servers
servers   the servers, and how each is started
measure   scenarios, rounds, medians
web       the same behind Apache and nginx
report    RESULTS.md and the chart
"""
