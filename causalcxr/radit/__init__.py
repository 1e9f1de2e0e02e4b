"""RadiT: the rectified flow transformer, its flow, its solvers and its training loop.

Network (`transformer`, `conditioning`), path (`flow`), solver (`solvers`), training (`train`) and
files (`weights`) are separate; none depends on equations or the graph's structure.
"""
