"""How words change a head: the named styles, attributes, and their wordings."""
