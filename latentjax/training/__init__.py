"""How a model learns: pure functions of a state."""
