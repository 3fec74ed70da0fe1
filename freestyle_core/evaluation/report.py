"""The scores of an evaluation as a table for people: what each means, and which way is better."""

from __future__ import annotations

from .evaluate import Evaluation

HIGHER, LOWER, NEITHER = "higher", "lower", ""
# name, which way is better, what it is
MEANINGS: tuple[tuple[str, str, str], ...] = (
    ("clip_text", HIGHER, "cosine of the views with the style's words"),
    ("clip_gain", HIGHER, "the same, over the unstyled head"),
    ("clip_direction", HIGHER, "cosine of the views' change with the words' change"),
    ("clip_consistency", HIGHER, "cosine of neighbouring frames' changes, once round the path"),
    ("clip_min_pair", HIGHER, "cosine of the two least similar frames of the path"),
    ("warp_short_rmse", LOWER, "the portrait, views a few degrees apart: colour difference"),
    ("warp_short_perceptual", LOWER, "the same, perceptual distance"),
    ("warp_long_rmse", LOWER, "the portrait, views far apart: colour difference"),
    ("warp_long_perceptual", LOWER, "the same, perceptual distance"),
    ("edited_warp_short_rmse", LOWER, "the edited views, near ones: colour difference"),
    ("edited_warp_short_perceptual", LOWER, "the same, perceptual distance"),
    ("edited_warp_long_rmse", LOWER, "the edited views, far ones: colour difference"),
    ("edited_warp_long_perceptual", LOWER, "the same, perceptual distance"),
    ("consistency_gain", HIGHER, "how many times better the portrait agrees than the edited views"),
    ("consistency_gain_short", HIGHER, "the same, near views alone"),
    ("consistency_gain_long", HIGHER, "the same, far views alone"),
    ("feature_consistency", LOWER, "1 - cosine of DINO features, the portrait"),
    ("edited_feature_consistency", LOWER, "1 - cosine of DINO features, the edited views"),
    ("edit_fidelity", LOWER, "perceptual distance to the edited views: a grey ball fails here"),
    ("identity", HIGHER, "CLIP cosine with the head before it was restyled"),
    ("sharpness", NEITHER, "variance of the Laplacian, grey levels squared"),
    ("sharpness_edited", NEITHER, "the same, the edited views"),
    ("sharpness_original", NEITHER, "the same, the original"),
    ("clipped", LOWER, "share of the head that is burnt out or of one pure colour"),
    ("clipped_gain", LOWER, "the same, over the original"),
    ("roughness", LOWER, "degrees by which the surface's normals leave those around them"),
    ("roughness_original", NEITHER, "the same, the original"),
    ("truth_psnr", HIGHER, "decibels against the true restyled head"),
    ("truth_perceptual", LOWER, "perceptual distance to the true restyled head"),
)
WEAK_GAIN = 0.02  # of clip_gain: below, the style hardly shows
_DIGITS = {"sharpness": 0, "truth_psnr": 2, "consistency_gain": 2, "roughness": 2}


def report(evaluation: Evaluation) -> str:
    """Return the scores, the protocol they hold under and what is missing, as lines of text."""
    scores = evaluation.scores
    lines = []
    for name, better, meaning in MEANINGS:
        if name in scores:
            lines.append(f"{name:30}{_number(name, scores[name]):>9}  {better:7} {meaning}")
    if scores.get("clip_gain", 1.0) < WEAK_GAIN:
        lines.append(f"note: clip_gain is below {WEAK_GAIN}: the style hardly shows")
    lines += [f"not measured: {name}: {why}" for name, why in evaluation.missing.items()]
    return "\n".join([*lines, "", *_protocol_lines(evaluation)])


def _number(name: str, value: float) -> str:
    digits = next((d for start, d in _DIGITS.items() if name.startswith(start)), 4)
    return f"{value:.{digits}f}"


def _protocol_lines(evaluation: Evaluation) -> list[str]:
    p = evaluation.protocol
    angles = "; ".join(
        f"{name} {short:g} and {far:g} degrees"
        for name, (short, far) in p["degrees_between_pairs"].items()
    )
    return [
        f"protocol: {p['held_out_views']} held-out views within 25 degrees, "
        f"{p['path_frames']} frames round a path, {p['edited_views']} edited views, "
        f"{p['pixels']} pixels, depth {p['depth_pixels']}, background {p['background']}",
        f"pairs of views: {angles}; a point's depths may differ by {p['tolerance']:g} of the "
        "camera's distance",
        f"CLIP: {p['clip'] or 'none'}; DINO: {p['dino'] or 'none'}; perceptual: {p['perceptual']}",
        f"texts: {p['texts'][0]!r} against {p['texts'][1]!r}",
    ]
