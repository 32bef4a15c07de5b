"""Example models: how each was trained, the model itself and data to run it on."""
