"""What other programs open: pictures, videos, meshes and the viewer's atlas."""
