"""How good a portrait is, in numbers and in one picture."""
