"""Kernels in assembly: geometry, weight streams, and the proofs that their arithmetic is exact."""
