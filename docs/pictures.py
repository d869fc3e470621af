"""Drawings of the site, made when it is built: from the embedded encoder as it is, and from recorded experiments."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

__all__ = ["clouds", "cosines", "noise"]

ROOT = Path(__file__).resolve().parents[1]
SCENES = 200


@cache
def _measured() -> Any:
    from close.encoders import load_encoder
    from close.gap.measured_tables import MeasuredTables
    from close.gap.modalities import Modalities
    from close.mini import captions, draw, scenes

    encoder = load_encoder("mini", precision="fp32")
    shown = list(scenes("test", SCENES))
    texts = encoder.encode_text([captions(scene, 1)[0] for scene in shown]).numpy()
    images = encoder.encode_image([draw(scene) for scene in shown]).numpy()
    return MeasuredTables("mini", Modalities.of(texts, images), None)  # what is drawn here looks at no measure


def _framed(drawn: str, says: str) -> str:
    return f'<figure markdown="0" class="drawn">{drawn}<figcaption>{says}</figcaption></figure>\n'


def clouds() -> str:
    """Texts and images on a plane."""
    from close.gap.report.figures import planes

    (drawn,) = planes([_measured()])
    kinds = f"<b class=t>Captions</b> and <b class=v>pictures</b> of {SCENES} scenes"
    says = f"{kinds} in the embedded encoder's space; some pairs are joined."
    return _framed(drawn, says)


def cosines() -> str:
    """How near pairs, strangers, and members of a modality are."""
    from close.gap.measures.cosine import paired_cosine, unpaired_cosine, within_cosine
    from close.gap.report.figures import cosines as histograms

    (drawn,) = histograms([_measured()])
    text, image = _measured().modalities.text, _measured().modalities.image
    found = paired_cosine(text, image), unpaired_cosine(text, image), within_cosine(text), within_cosine(image)
    values = [spread.mean for spread in found]
    kinds = ("<b class=p>a picture and its caption {:.2f}</b>", "<b class=s>a picture and another's caption {:.2f}</b>")
    kinds = (*kinds, "<b class=t>two captions {:.2f}</b>", "<b class=v>two pictures {:.2f}</b>")
    says = "Mean cosines: " + ", ".join(kind.format(value) for kind, value in zip(kinds, values, strict=True)) + "."
    return _framed(drawn, says)


def noise() -> str:
    """CIDEr against noise, as recorded by experiments/gap."""
    from close.io.plots import IMAGE, TEXT, svg

    arms = json.loads((ROOT / "experiments" / "gap" / "ablation.json").read_text(encoding="utf-8"))["parts"][
        "noise_single"
    ]
    names = [name for name in arms if name == "none" or name.startswith("cosine ")]
    ceiling = arms["image"]["image"]["cider"]["mean"]

    def paint(axes: Any) -> None:
        for modality, colour in (("image", IMAGE), ("text", TEXT)):
            found = [arms[name][modality]["cider"] for name in names]
            spread = [
                [one["mean"] - min(one["values"]) for one in found],
                [max(one["values"]) - one["mean"] for one in found],
            ]
            axes.errorbar(
                range(len(names)), [one["mean"] for one in found], spread, color=colour, capsize=3, marker="o"
            )
        axes.axhline(ceiling, color=IMAGE, linestyle=":", linewidth=1)
        axes.set(xticks=range(len(names)), xlabel="noise, by the cosine that it leaves", ylabel="CIDEr")
        axes.set_xticklabels([name.removeprefix("cosine ") for name in names])

    drawn = svg(
        (5.6, 2.6), paint, "CIDEr against noise: fed pictures it rises to the middle and falls, fed text it falls"
    )
    says = (
        "Mini world, single captioning, mean and range of three seeds: fed <b class=v>pictures</b>, fed <b class=t>texts</b>; "
        "dotted, the same model trained on pictures. Recorded by <code>experiments/gap</code>."
    )
    return _framed(drawn, says)
