"""Runtime support: console, errors, signals, devices, precision and random streams."""
