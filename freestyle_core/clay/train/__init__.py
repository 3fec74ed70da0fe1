"""The trainings of the clay models, a file each."""
