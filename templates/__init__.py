"""The C as it will look: templates, read by codegen.emit (a data package)."""
