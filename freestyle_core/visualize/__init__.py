"""What is shown of a portrait: depth and normals, orbit views, turntables, mixes."""
