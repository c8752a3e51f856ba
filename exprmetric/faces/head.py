"""How a head is turned: yaw, pitch and roll from points on a face, by perspective-n-point.

The camera stands ten eye distances before the face and looks at it: what counts is how the face is seen, which does
not depend on where in the picture it is, or how the picture was cut.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from exprmetric.faces.alignment import eye_centres

Floats = npt.NDArray[np.float64]

RIGID = (27, 28, 29, 30, 31, 33, 35, 36, 39, 42, 45)
"""Points that keep their place on the head whatever the expression, by their number of dlib's 68: nose and eye corners.
The corners of the mouth don't: with them, a smile turns the pitch by some 20 degrees."""
HEAD = np.array(
    [
        (0.0, -7.2, -24.8),
        (0.0, 11.1, -37.7),
        (0.0, 28.8, -54.1),
        (0.0, 48.0, -63.5),
        (-22.0, 66.5, -31.7),
        (0.0, 72.7, -39.7),
        (22.0, 66.5, -31.7),
        (-69.3, 1.3, 7.5),
        (-29.9, 1.8, -0.3),
        (29.9, 1.8, -0.3),
        (69.3, 1.3, 7.5),
    ]
)
"""Where they are: x to the image's right, y down, z away from the camera; % of the distance between the eye centres,
whose middle is the origin. Medians of dlib's points over 404 neutral, nearly frontal photographs of LFW, each with the
depth that MediaPipe's mesh has there, turned to one pose and made symmetric."""
_FAR = 10.0
"""Distance of the camera, in distances between the eyes: about that of a webcam."""


class Pose(NamedTuple):
    """Degrees, all 0 for an upright face that looks at the camera; NaN where the points are no face.

    Attributes:
        yaw: about the vertical axis of the head; positive when the nose points to the image's right.
        pitch: positive when the nose points up.
        roll: in the plane of the image; positive when the head leans to the image's right (clockwise).
    """

    yaw: float
    pitch: float
    roll: float


UNKNOWN = Pose(float("nan"), float("nan"), float("nan"))


def head_pose(landmarks: npt.ArrayLike) -> Pose:
    """The pose of a head from 11 points of nose and eyes.

    Args:
        landmarks: (68, 2) dlib points, px.
    """
    points = np.asarray(landmarks, np.float64)
    eyes = eye_centres(points)
    extent = (np.linalg.norm(eyes[1] - eyes[0]) + np.linalg.norm(points[[48, 54]].mean(0) - eyes.mean(0))) / 2
    return fitted_pose(HEAD, points[list(RIGID)], float(extent))


def fitted_pose(model: npt.ArrayLike, seen: npt.ArrayLike, extent: float) -> Pose:
    """The pose under which a camera sees points of a head where they are seen.

    Args:
        model: (K, 3) points of a head that looks at the camera: x to the image's right, y down, z away from the camera;
            any unit.
        seen: (K, 2) the same points in the image, px.
        extent: distance between the eyes in the image, px; it says how far the camera is away.
    """
    import cv2

    points = np.asarray(seen, np.float64)
    if not np.isfinite(points).all() or not np.isfinite(extent) or extent < 1e-6:
        return UNKNOWN
    flat = (points - points.mean(0)) / extent
    try:
        found, turn, _ = cv2.solvePnP(
            np.asarray(model, np.float64), flat, np.diag([_FAR, _FAR, 1.0]), None, flags=cv2.SOLVEPNP_SQPNP
        )
    except cv2.error:
        return UNKNOWN
    return angles(cv2.Rodrigues(turn)[0]) if found else UNKNOWN


def angles(rotation: npt.ArrayLike) -> Pose:
    """Yaw, pitch and roll of a (3, 3) rotation of the head: first pitch, then yaw, then roll about the camera's axis.

    In this order, a photograph that is turned in its plane changes the roll alone.
    """
    r = np.asarray(rotation, np.float64)
    yaw = np.arctan2(r[2, 0], np.hypot(r[0, 0], r[1, 0]))
    pitch = -np.arctan2(r[2, 1], r[2, 2])
    roll = np.arctan2(r[1, 0], r[0, 0])
    return Pose(*(float(v) for v in np.degrees([yaw, pitch, roll])))


def rotation(pose: Pose) -> Floats:
    """(3, 3) the rotation that `angles` reads this pose off."""
    yaw, pitch, roll = np.radians([-pose.yaw, -pose.pitch, pose.roll])
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_y = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    about_z = np.array([[np.cos(roll), -np.sin(roll), 0], [np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x)
