"""The serial link between a host and a board: frames, messages, a client (docs/serial.md)."""
