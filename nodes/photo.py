"""Align Photo and Photo to Portrait: how a photograph comes into the graph."""

from comfy_api.latest import io

from ..freestyle_core.baselines.from_photo import WAYS, own_i2t, portrait_of_photo
from ..freestyle_core.errors import InputError
from ..freestyle_core.files.media.photo import load_photo
from ..freestyle_core.files.networks import (
    example_photo,
    framing_for,
    load_detector,
    load_face_mesh,
)
from ..freestyle_core.photo.align import align_photo, face_of_points
from ..freestyle_core.photo.marks import faces_of_landmarks, read_points
from ..freestyle_core.visualize.photo_overlay import photo_overlay
from . import adapt
from .schema import (
    ADVANCED,
    CamerasSocket,
    EG3DSocket,
    I2TSocket,
    PortraitSocket,
    schema,
    seed_input,
)

LandmarksSocket = io.Custom("FACE_LANDMARKS")  # of ComfyUI's own MediaPipe Face Landmarker
MOST_FACES = 64


class AlignPhoto(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "AlignPhoto",
            display_name="Align Photo",
            description="Finds the face in a photograph, crops it as the generator's own pictures "
            "are, and says where the camera stood.",
            search_aliases=["photograph", "crop", "face detection", "pose", "selfie", "mtcnn"],
            inputs=[
                EG3DSocket.Input(
                    "eg3d",
                    tooltip="The generator that the crop is for, from Load EG3D. The embedded one "
                    "knows heads like its own only.",
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="One photograph, upright, the face seen more or less from the front. "
                    "Left open, an example is taken: a drawn head.",
                ),
                io.Int.Input(
                    "face",
                    default=0,
                    min=0,
                    max=MOST_FACES,
                    tooltip="Which face, where there are several: 0 is the largest. The overlay "
                    "shows their numbers.",
                ),
                LandmarksSocket.Input(
                    "landmarks",
                    optional=True,
                    tooltip="Faces that ComfyUI's MediaPipe Face Landmarker found in this image, "
                    "in place of the detector of this node.",
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    tooltip="The last resort: five points by hand, in pixels: left eye, right eye, "
                    "nose, left and right corner of the mouth, as seen in the picture; such as "
                    "188,192 324,192 257,266 201,340 311,340.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The crop, at the generator's own size."
                ),
                CamerasSocket.Output(
                    display_name="camera",
                    tooltip="The camera that took it: for Photo to Portrait, and as the front view "
                    "of MultiView Camera Grid.",
                ),
                io.Image.Output(
                    display_name="overlay",
                    tooltip="The photograph with all faces and their numbers, the crop, and where "
                    "the head looks.",
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="Yaw, pitch and roll in degrees, which face was taken, and warnings.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, eg3d, face=0, image=None, landmarks=None, points=""):
        photo = load_photo(example_photo()) if image is None else _one(image)
        faces = _given(photo, face, landmarks, points)
        config, detector = eg3d.config, load_detector() if faces is None else None
        mesh = load_face_mesh()
        with adapt.on_device(detector, mesh):
            made = align_photo(
                photo,
                config,
                detector=detector,
                mesh=mesh,
                framing=framing_for(config),
                faces=faces,
                index=face,
            )
        for text in made.notes:
            adapt.note(cls.hidden.unique_id, text)
        overlay = photo_overlay(photo, made)
        images = adapt.images_out(made.image[None])
        return io.NodeOutput(images, made.camera, adapt.images_out(overlay[None]), made.report())


class PhotoToPortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            "PhotoToPortrait",
            display_name="Photo to Portrait",
            description="Makes a 3D portrait of an aligned photograph, to turn, restyle, mix and "
            "save as any other.",
            search_aliases=["inversion", "gan inversion", "photograph", "image to 3d", "selfie"],
            inputs=[
                EG3DSocket.Input("eg3d", tooltip="The generator, from Load EG3D."),
                io.Image.Input("image", tooltip="The crop, from Align Photo."),
                CamerasSocket.Input(
                    "camera",
                    optional=True,
                    tooltip="The camera that took it, from Align Photo. Left open, the picture is "
                    "taken for a front view.",
                ),
                I2TSocket.Input(
                    "i2t",
                    optional=True,
                    tooltip="The I2T of this generator, from Load I2T. Left open, the embedded one "
                    "is used where it belongs to the generator.",
                ),
                io.Combo.Input(
                    "way",
                    options=list(WAYS),
                    default=WAYS[0],
                    optional=True,
                    tooltip="i2t: in one pass of the I2T. planes: the I2T, then the planes learn "
                    "the picture. invert: the generator is searched for the head and tuned to it, "
                    "without an I2T. auto: the best there is for this generator.",
                ),
                io.Int.Input(
                    "steps",
                    display_name="steps (0: auto)",
                    default=0,
                    min=0,
                    max=2000,
                    optional=True,
                    tooltip="Training steps of the way planes, or at most so many of each stage of "
                    "invert. More is nearer to the picture, and at some point further from the "
                    "head's other sides.",
                    extra_dict=ADVANCED,
                ),
                seed_input("Of the random numbers of the training."),
                io.Combo.Input(
                    "perceptual",
                    options=adapt.PERCEPTUAL_CHOICES,
                    default=adapt.PERCEPTUAL_AUTO,
                    optional=True,
                    tooltip="How pictures are compared besides their colours: VGG (LPIPS) or the "
                    "embedded features; auto as in I2T Finetune.",
                    extra_dict=ADVANCED,
                ),
            ],
            outputs=[
                PortraitSocket.Output(
                    display_name="portrait",
                    tooltip="The head: for the camera nodes, Triplane Render and I2T Finetune.",
                )
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        eg3d,
        image,
        seed,
        camera=None,
        i2t=None,
        way=WAYS[0],
        steps=0,
        perceptual=adapt.PERCEPTUAL_AUTO,
    ):
        photo = _one(image)
        if camera is not None and len(camera) != 1:
            raise InputError(f"camera has {len(camera)} views; connect that of Align Photo")
        network = None if i2t is None else i2t.network
        if network is None and way != "invert":
            network = own_i2t(eg3d)
        if perceptual == adapt.PERCEPTUAL_OFF and (way == "invert" or network is None):
            raise InputError("perceptual is off: the way invert searches by it; choose another")
        distance = adapt.perceptual_distance(perceptual, eg3d.config.image_resolution)
        progress = adapt.NodeProgress(cls.hidden.unique_id, "training, step")
        with adapt.on_device(eg3d, network, distance, work_mb=adapt.TRAIN_MB) as device:
            portrait = portrait_of_photo(
                photo.to(device),
                None if camera is None else camera.to(device),
                eg3d=eg3d,
                i2t=network,
                perceptual=distance,
                way=way,
                steps=steps,
                seed=seed,
                progress=progress,
            )
        return io.NodeOutput(adapt.portrait_home(portrait))


def _one(image):
    """Return the only picture of an IMAGE as the library's, [3,H,W] in [0,1]."""
    images = adapt.images_in(image)
    if len(images) != 1:
        raise InputError(f"image has {len(images)} pictures; choose one (Image From Batch)")
    return images[0].clamp(0, 1)


def _given(photo, face, landmarks, points):
    """Return the faces that were given in place of the detector's, None where none were."""
    if points.strip():
        if face:
            raise InputError("points mark the face to take; set face to 0")
        return [face_of_points(read_points(points, photo.shape[-2:]))]
    return None if landmarks is None else faces_of_landmarks(landmarks)
