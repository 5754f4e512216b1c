"""One volume, one view, drawn by one contender in a process of its own: peers in their environment, octree in its.

Usage: _volume_views.py CONTENDER MODE KIND WIDTH HEIGHT [EDGE]     (volume.py starts it)
Prints a line of JSON once the first frame is drawn, then for each line that it reads draws a frame more and
prints its wall and processor milliseconds.

The view is orthographic and the same for all: azimuth 35, elevation 25, the volume's diagonal fits the frame, samples
one voxel apart. ``alpha`` has the opacity of a ramp from 0 to ``MOST_OPAQUE`` over the first eighth of the values.
"""

from __future__ import annotations

import ctypes.util
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

AZIMUTH, ELEVATION = 35.0, 25.0
ISO = 0.25
"""Of the whole range of values."""
MOST_OPAQUE, RAMP = 0.1, 0.125


def volume_of(kind: str, edge: int) -> NDArray[np.uint16]:
    """``dense``: waves and noise everywhere. ``sparse``: sixty blobs, nine tenths zero."""
    rng = np.random.default_rng(1)
    if kind == "dense":
        field = np.zeros((edge,) * 3, np.float32)
        for _ in range(5):
            waves = [np.sin(np.arange(edge) * rng.uniform(0.02, 0.1) + rng.uniform(0, 6)) for _ in range(3)]
            field += np.einsum("i,j,k->ijk", *waves).astype(np.float32)
        field = (field - field.min()) / np.ptp(field)
        noise = rng.integers(0, 400, field.shape)
        return (1000 + 20000 * field + noise).astype(np.uint16)
    volume = np.zeros((edge,) * 3, np.float32)
    for _ in range(60):
        centre, radius = rng.uniform(0.25 * edge, 0.75 * edge, 3), rng.uniform(4, 10) * edge / 256
        reach = int(2.5 * radius)
        low = np.maximum(centre.astype(int) - reach, 0)
        box = tuple(slice(a, a + 2 * reach + 1) for a in low)
        far = sum((np.arange(b.start, min(b.stop, edge)).reshape([-1 if a == k else 1 for a in range(3)]) - c) ** 2
                  for k, (b, c) in enumerate(zip(box, centre, strict=True)))  # fmt: skip
        blob = rng.uniform(5000, 30000) * np.exp(-far / radius**2)
        volume[box] += np.where(far < (2.5 * radius) ** 2, blob, 0)
    return np.clip(volume, 0, 65535).astype(np.uint16)


def view_of(edge: int, size_px: tuple[int, int]) -> tuple[NDArray[np.float64], float]:
    """Rows: to the right, down and forward, in (x, y, z); screen pixels per voxel."""
    a, e = math.radians(AZIMUTH), math.radians(ELEVATION)
    forward = np.array([-math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
    right = np.array([math.cos(a), 0.0, math.sin(a)])
    return np.array([right, np.cross(forward, right), forward]), min(size_px) / (edge * math.sqrt(3))


Frame = Callable[[], Any]


def vispy_frame(mode: str, volume: NDArray[np.uint16], size_px: tuple[int, int]) -> Frame:
    os.environ["PYOPENGL_PLATFORM"] = "osmesa"
    os.environ["OSMESA_LIBRARY"] = ctypes.util.find_library("OSMesa") or "libOSMesa.so"
    import vispy

    vispy.use(app="osmesa")
    from vispy import scene
    from vispy.color import BaseColormap
    from vispy.visuals.transforms import MatrixTransform

    class Ramp(BaseColormap):  # type: ignore[misc] # vispy has no type information
        glsl_map = (
            f"vec4 ramp(float t) {{ return vec4(t, t, t, clamp(t / {RAMP}, 0.0, 1.0) * {MOST_OPAQUE}); }}"
        )

    canvas = scene.SceneCanvas(size=size_px, show=False)
    view = canvas.central_widget.add_view()
    options: dict[str, Any] = {"threshold": ISO} if mode == "iso" else {}
    if mode == "alpha":
        options["cmap"] = Ramp()
    scene.visuals.Volume(
        volume,
        parent=view.scene,
        method={"mip": "mip", "mean": "average", "alpha": "translucent", "iso": "iso"}[mode],
        clim=(0, 65535),
        interpolation="linear",
        relative_step_size=1.0,
        texture_format=np.uint16,
        **options,
    )
    axes, zoom = view_of(len(volume), size_px)
    axes = axes * [[zoom], [zoom], [1 / (4 * len(volume))]]
    matrix = np.eye(4)
    matrix[:3, :3] = axes.T
    # vispy's voxel centres are at whole numbers
    matrix[3, :3] = np.array([*size_px, 0]) / [2, 2, 1] - axes @ np.full(3, len(volume) / 2 - 0.5)
    view.scene.transform = MatrixTransform(matrix)
    return lambda: canvas.render(alpha=False)


def vtk_frame(
    mode: str, volume: NDArray[np.uint16], size_px: tuple[int, int], *, software: bool
) -> Frame | None:
    import vtk
    from vtkmodules.util.numpy_support import numpy_to_vtk

    if software and mode in ("iso", "mean"):
        return None  # its ray caster has no such mode: of a mean it draws nothing
    edge, image = len(volume), vtk.vtkImageData()
    image.SetDimensions(edge, edge, edge)
    image.SetOrigin(0.5, 0.5, 0.5)
    values = numpy_to_vtk(volume.ravel(), deep=True, array_type=vtk.VTK_UNSIGNED_SHORT)
    image.GetPointData().SetScalars(values)
    mapper = vtk.vtkFixedPointVolumeRayCastMapper() if software else vtk.vtkOpenGLGPUVolumeRayCastMapper()
    mapper.SetInputData(image)
    mapper.SetAutoAdjustSampleDistances(0)
    mapper.SetSampleDistance(1.0)
    mapper.SetImageSampleDistance(1.0)
    if software:
        mapper.SetNumberOfThreads(len(os.sched_getaffinity(0)))
        mapper.LockSampleDistanceToInputSpacingOff()
    else:
        mapper.SetUseJittering(0)
    look, color, opacity = vtk.vtkVolumeProperty(), vtk.vtkColorTransferFunction(), vtk.vtkPiecewiseFunction()
    look.SetInterpolationType(1)
    look.ShadeOff()
    color.AddRGBPoint(0, 0, 0, 0)
    color.AddRGBPoint(65535, 1, 1, 1)
    if mode == "mip":
        mapper.SetBlendModeToMaximumIntensity()
        opacity.AddPoint(0, 1)
    elif mode == "mean":
        mapper.SetBlendModeToAverageIntensity()
        opacity.AddPoint(0, 1)
    elif mode == "alpha":
        mapper.SetBlendModeToComposite()
        for at, value in ((0, 0), (65535 * RAMP, MOST_OPAQUE), (65535, MOST_OPAQUE)):
            opacity.AddPoint(at, value)
    else:
        mapper.SetBlendModeToIsoSurface()
        look.ShadeOn()
        look.GetIsoSurfaceValues().SetValue(0, 65535 * ISO)
        opacity.AddPoint(0, 1)
    look.SetColor(color)
    look.SetScalarOpacity(opacity)
    actor, renderer, window = vtk.vtkVolume(), vtk.vtkRenderer(), vtk.vtkRenderWindow()
    actor.SetMapper(mapper)
    actor.SetProperty(look)
    renderer.AddVolume(actor)
    window.SetOffScreenRendering(1)
    window.SetMultiSamples(0)
    window.SetSize(*size_px)
    window.AddRenderer(renderer)
    axes, zoom = view_of(edge, size_px)
    camera, middle = renderer.GetActiveCamera(), np.full(3, edge / 2)
    camera.ParallelProjectionOn()
    camera.SetParallelScale(size_px[1] / 2 / zoom)
    camera.SetFocalPoint(*middle)
    camera.SetPosition(*(middle - 3 * edge * axes[2]))
    camera.SetViewUp(*-axes[1])
    renderer.ResetCameraClippingRange()

    def frame() -> None:
        camera.Modified()
        window.Render()
        window.WaitForCompletion()

    return frame


def main(contender: str, mode: str, kind: str, size_px: tuple[int, int], edge: int) -> None:
    os.environ.pop("DISPLAY", None)
    volume = volume_of(kind, edge)
    frame: Frame | None
    if contender == "vispy":
        frame = vispy_frame(mode, volume, size_px)
    elif contender.startswith("vtk"):
        frame = vtk_frame(mode, volume, size_px, software=contender == "vtk-cpu")
    else:
        from _volume_march import frame_of

        frame = frame_of(contender, mode, volume, size_px, view_of(edge, size_px))
    if frame is None:
        print(json.dumps({"ready": False}), flush=True)
        return
    frame()
    print(json.dumps({"ready": True}), flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        frame()
        print(1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu), flush=True)


if __name__ == "__main__":
    name, mode, kind, width, height, *more = sys.argv[1:]
    main(name, mode, kind, (int(width), int(height)), int(more[0]) if more else 256)
