"""What a procedural head is: signed distances, colors, and how identities vary."""
