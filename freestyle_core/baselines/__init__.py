"""Other ways to the same pictures, to measure this program against."""
