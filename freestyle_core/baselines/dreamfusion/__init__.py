"""DreamFusion (Poole et al., arXiv 2209.14988) as stable-dreamfusion runs it: a rival.

A text-to-image model looks at a scene from one random camera a step and says which way the picture
should change; the scene, a field in a box, is changed by that. Nothing of the head or of any
picture is looked at, so the identity is not kept, which is part of what is compared.

As published: cameras, words by azimuth, blob, exp density, light and shading, the first fifth in
latents, score distillation and its time steps, background, losses, Adan, average. `FAITHFUL` makes
10,000 steps. Otherwise than published, always:
- planes and a small network in place of the hash grid (`field.py`), whose marcher's rule for empty
  space is kept with even samples (`march.py`); samples that show under 1e-4 are not shaded;
- the mode of the encoder's posterior instead of a sample of it;
- the average of the weights moves at every step;
- the result is rendered on white by a light at the camera.
Where the teacher asks for it (`Suits`, as the embedded one does): its own guidance and words, the
generator's lens, distance and range of views, a white background. Where its latents have other than
4 channels, the first fifth shows plain albedo through the encoder. `LITE` makes 2,000 steps of a
smaller field at 48 x 48 rays, whose planes learn twice as fast as its network, not ten times.
"""

from .fit import distil, fit
from .scene import DistilledHead
from .settings import FAITHFUL, LITE, DreamFusionSettings

__all__ = ["FAITHFUL", "LITE", "DistilledHead", "DreamFusionSettings", "distil", "fit"]
