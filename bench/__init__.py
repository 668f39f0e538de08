"""Benchmarks that print ratios: prunella against a hand-written floor, measured in one run on one machine.

They measure and never assert: a shared machine makes times worthless, and a ratio only a hint. A benchmark must not
reach into the product: it talks to `prunella up` over HTTP as everybody does, and reads its tables when it has ended.
"""
