"""The simulator: a server, its log, its clients and workers in one thread on a virtual clock.

    headrace sim --seed 7            one life, told if it goes wrong
    headrace sim --seeds 1000        a thousand of them

What runs is the code of production behind a simulated `Env`; only disk, network, clock and
processes are not real, and they are worse than real ones.
"""
