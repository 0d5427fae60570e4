"""Random inputs for every op, judged by plain Python and numpy.

    python -m tests.fuzz --seconds 60 --seed 1 --jobs 2

An input is named PART/OP/SEED, and its name makes it again:

    python -m tests.fuzz --input garbage/draw.table/17

The part ``values`` gives each op what it is made for, extremes included. The part ``garbage``
breaks some arguments of such a call. Its numbers beyond 1e18, and those that are none, may be
answered by any number, since sums cancel and overflow on the way. Else an op must give the right
value or refuse with an error that names an argument, and what it refused it must have left
unchanged. All else is a fault: a wrong value, a broken rule that was let through, a crash, a call
that does not end, a byte changed that is not the op's own. The truths stand beside the rules in
``scores``, ``tables``, ``draws``, ``memory`` and ``rows``.
"""
