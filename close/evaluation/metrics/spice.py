"""SPICE: Anderson et al. (2016), a Java program."""

from __future__ import annotations

import shutil
import subprocess

from close.errors import MissingError
from close.evaluation.bootstrap import SummedScore, mean_score
from close.evaluation.metrics.base import METRICS, Inputs, Metric, Score
from close.evaluation.metrics.tokens import package_folder

__all__ = ["spice", "spice_of_each"]


@METRICS.register(
    Metric(
        "spice",
        "caption",
        (Score("spice", "SPICE"),),
        default=True,
        needs=("java",),
        source="Anderson et al., ECCV 2016",
    )
)
def spice(inputs: Inputs) -> dict[str, SummedScore]:
    """SPICE, mean over images; it needs models of Stanford's parser, which are downloaded apart."""
    return {"spice": mean_score([100 * value for value in spice_of_each(inputs)])}


def spice_of_each(inputs: Inputs) -> list[float]:
    """SPICE of each image, 0 to 1; found once for all metrics that are made of it.

    Raises:
        MissingError: Java, or the models, are not there, or the program failed.
    """
    return list(inputs.once("spice", lambda: _spice_of_each(inputs)))


def _spice_of_each(inputs: Inputs) -> list[float]:
    from pycocoevalcap.spice.get_stanford_models import JAR
    from pycocoevalcap.spice.spice import Spice

    gts, res = inputs.tokens
    if shutil.which("java") is None:
        raise MissingError("needs `java` on the PATH")
    if not (package_folder("spice") / "lib" / f"{JAR}-models.jar").exists():
        raise MissingError(
            "needs the Stanford models: python -c 'from pycocoevalcap.spice.get_stanford_models import *;"
            " get_stanford_models()' (about 400 MB)"
        )
    try:
        per_image = Spice().compute_score(gts, res)[1]
    except subprocess.CalledProcessError as error:
        raise MissingError(f"the SPICE program failed (exit {error.returncode}); it was made for Java 8") from error
    order = {key: i for i, key in enumerate(sorted(gts))}
    return [float(per_image[order[key]]["All"]["f"]) for key in gts]
