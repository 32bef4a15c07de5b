"""Passes: one Graph -> Graph function per file, listed in order in codegen.pipeline."""
