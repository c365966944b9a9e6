"""A run's step compiled for a TPU slice that is not there, and what that says of memory, time and price.

`slices` are chips with their published numbers and how they are arranged; `labels` a program that needs no
image; `compiled` what the compiler says; `prediction` what follows from it.
"""
