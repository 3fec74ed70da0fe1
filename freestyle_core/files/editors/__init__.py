"""Image editors (InstructPix2Pix) from diffusers folders, single checkpoints and the hub."""
