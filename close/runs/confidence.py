"""How often a run is right where it is as sure as this: what `close calibrate` has saved with it, in use."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from close.errors import DataError, RecipeError
from close.evaluation.calibration import Calibration
from close.io.plain import read_plain
from close.plugins import changed_plugins
from close.runs.candidates import UNHEEDED, closed_set, labels_sum, search_width, texts_sum
from close.runs.folder import RUN_FILE
from close.runs.outputs import Answer

__all__ = ["FOLDER", "Confidence", "calibration_sums", "check_confidence", "confidence_file", "run_sum", "settings_of"]

FOLDER = "calibration"
_log = logging.getLogger(__name__)


def confidence_file(run: str | Path, task: str) -> Path:
    """Where a run keeps its calibration for a task."""
    return Path(run) / FOLDER / f"{task}.json"


def run_sum(run: str | Path) -> str:
    """Of what the run says of itself: another training, another sum."""
    return hashlib.sha256((Path(run) / RUN_FILE).read_bytes()).hexdigest()


def calibration_sums(run: str | Path) -> dict[str, str]:
    """`calibration/TASK.json` to its sum, for each that a run has."""
    files = sorted((Path(run) / FOLDER).glob("*.json"))
    return {f"{FOLDER}/{file.name}": hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@dataclass
class Confidence:
    """A run's calibration for one task.

    Attributes:
        map: from likelihood and cosine to confidence. settings: what answers were found with (`settings_of`).
        about: what the file says. other: what differed from the settings when it was last asked (`differs`).
    """

    map: Calibration
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    told: bool = False
    other: str = ""

    @classmethod
    def load(cls, run: str | Path, task: str) -> Confidence | None:
        """What is saved with a run; None where nothing is, or it is of another training or other plug-ins.

        Raises:
            DataError: the file is damaged.
        """
        file = confidence_file(run, task)
        if not file.is_file():
            return None
        about = read_plain(file)
        if not isinstance(about.get("settings"), dict):
            raise DataError(f"{file}: no settings; make it anew with `close calibrate`")
        files = about.get("files", [])
        if not isinstance(files, list) or not all(isinstance(count, int) for count in files):
            raise DataError(f"{file}: 'files' is {str(files)[:80]}, not numbers; make it anew with `close calibrate`")
        found = cls(Calibration.of(about.get("map"), f"{file}"), about["settings"], about)
        if about.get("run_sha256") != run_sum(run):
            _log.warning(
                "%s is of another training than the run, and not used; make it anew with `close calibrate`", file
            )
            return None
        if other := changed_plugins(about):
            _log.warning(
                "%s was measured with other code of %s, and is not used; make it anew with `close calibrate`",
                file,
                ", ".join(other),
            )
            return None
        return found

    def differs(self, settings: Mapping[str, Any]) -> str:
        """What differs from the settings that it was measured with, in words; empty where nothing does."""
        keys = sorted(self.settings.keys() | settings.keys())
        differing = [key for key in keys if self.settings.get(key) != settings.get(key)]
        pairs = ((key, self.settings.get(key), settings.get(key)) for key in differing)
        then = ((f"no {key}" if old is None else f"{key} {_short(old)}", new) for key, old, new in pairs)
        return ", ".join(f"{said} (now {_short(new)})" for said, new in then)

    def fits(self, settings: Mapping[str, Any], labels: Sequence[str] | None = None) -> bool:
        """Whether it was measured with these settings; where not, that is told once.

        Args:
            labels: that were given, if any: a calibration of before knows them in their order then.
        """
        if labels is not None and self.settings.get("labels") == texts_sum(closed_set(labels)):
            settings = {**settings, "labels": self.settings["labels"]}
        if "precision" not in self.settings:  # of before
            settings = {key: value for key, value in settings.items() if key != "precision"}
        self.other = differing = self.differs(settings)
        if differing and not self.told:
            self.told = True
            _log.warning("no confidence: it was measured with %s; calibrate with the settings that are used", differing)
        return not differing

    def of_items(self, answers: Sequence[Answer], files: Sequence[int]) -> list[Answer]:
        """The answers, without confidence where an item is of another number of files than any that it was measured on.

        Args:
            files: of each item, how many; their mean, or all of them, lie elsewhere than one.
        """
        known = self.about.get("files") or set(files)  # a calibration of before does not say it
        if other := sorted(set(files) - set(known)):
            self.other = f"items of {' or '.join(map(str, known))} files, not {other[0]}"
            if not self.told:
                self.told = True
                _log.warning("no confidence: it was measured on %s; calibrate on such items", self.other)
        return [
            answer if count in known else answer._replace(confidence=None)
            for answer, count in zip(answers, files, strict=True)
        ]

    def of(self, answers: Sequence[Answer]) -> list[Answer]:
        """Answers with their confidence."""
        if not answers:
            return []
        cosines = [float("nan") if answer.cosine is None else answer.cosine for answer in answers]
        found = self.map([answer.likelihood for answer in answers], cosines)
        return [answer._replace(confidence=float(sure)) for answer, sure in zip(answers, found, strict=True)]


def settings_of(
    config: Any,
    how: str,
    *,
    modality: str,
    labels: Sequence[str] | None,
    normalise: bool,
    n: int | None,
    rerank: str | None,
    generation: Mapping[str, Any],
) -> dict[str, Any]:
    """What decides which text is said, and what its score means; for answers that are found alike it is the same.

    Args:
        config: the run's generation settings. labels: those that were given, if any. n: candidates that are asked for.
    """
    samples, beams = search_width(config, generation, n or 1)
    found: dict[str, Any] = {"modality": modality, "decode": how, "rerank": rerank}
    if how == "score":
        found |= {"normalise": normalise}
    else:
        found["num_beams"] = _plain(beams)
        penalty = generation.get("length_penalty", getattr(config, "length_penalty", None))
        if penalty not in (None, 1.0):  # `match_length` may have changed the run's own
            found["length_penalty"] = _plain(penalty)
        told = {"num_beams", "length_penalty", *UNHEEDED}  # of the last only what asks for nothing is not refused
        others = {key: value for key, value in generation.items() if key not in told}
        found |= {key: _plain(value) for key, value in others.items() if value != getattr(config, key, None)}
    if rerank or samples:
        found["n"] = n or 1
    if labels is not None:
        found["labels"] = labels_sum(labels)
    return found


def _plain(value: Any) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (str, int, float, bool)) or value is None else repr(value)


def _short(value: Any) -> str:
    return "none" if value is None else str(value)[:12]


def check_confidence(sure: Any, confidence: Confidence | None, run: str) -> None:
    """Refuse a threshold that nothing can be held against.

    Raises:
        RecipeError: it is no share, or the run is not calibrated.
    """
    if isinstance(sure, bool) or not isinstance(sure, (int, float)) or not 0 <= sure <= 1:
        raise RecipeError(f"min_confidence is a share from 0 to 1, not {sure!r}")
    if confidence is None:
        raise RecipeError(
            f"{run} is not calibrated; `close calibrate {run} VAL.jsonl` measures what its confidence is worth"
        )
