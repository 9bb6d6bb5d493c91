"""Figures about a trained network: firing rates, learned constants, operations, traces, latency.

Nothing here knows a method or the trainer; every function takes a module and
the inputs to run it on.
"""
