"""From a float graph to an integer one: calibration, grids, fixed-point multipliers."""
