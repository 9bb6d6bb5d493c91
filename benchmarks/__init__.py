"""Speed as ratios measured in one process: against a memory copy, the eager step, peers, and ReLU.

A figure is printed only for a contender whose output agreed with the reference first.
"""
