"""What the node agent decides: values in, values out; no clock, no I/O, no logging."""
