"""RadiT: the rectified flow transformer, its flow, its solvers and its training loop."""

