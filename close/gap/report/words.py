"""A gap report in words: how wide, of what kind, what to do."""

from __future__ import annotations

from dataclasses import dataclass

from close.gap.measure import GapReport
from close.gap.measures.belonging import SHUFFLED, Spaces, separation, spaces
from close.gap.measures.cosine import Spread

__all__ = ["Verdict", "verdict"]


@dataclass(frozen=True)
class Verdict:
    """What the numbers say.

    Attributes:
        headline: how wide and of what kind, in one line.
        findings: what it rests on, a sentence each.
        steps: what to do, a sentence each.
    """

    headline: str
    findings: tuple[str, ...]
    steps: tuple[str, ...]


def verdict(report: GapReport) -> Verdict:
    """Read the numbers the way the literature does (Liang 2022; Gu 2023; Zhang 2024; Schrodi 2025); thresholds are round."""
    return Verdict(_headline(report), tuple(_findings(report)), tuple(_steps(report)))


def constant_share(report: GapReport) -> float | None:
    """‖Δ‖² as a share of what separates the modalities: of the mean squared pair distance, or without pairs of Fréchet's.

    None where that is not known, or is of so few rows that it is biased.
    """
    whole = report["alignment"] or _sure(report, "frechet.raw")
    return None if not whole else min(float(report["centroid_gap"] or 0) ** 2 / whole, 1.0)


def _sure(report: GapReport, name: str) -> float | None:
    """A measure, unless its note says that few rows make it read high or low: no advice rests on that."""
    return None if "reads " in report.notes.get(name, "") else report[name]


def spaces_of(report: GapReport) -> Spaces:
    """Whether pairs lie in one space, in two that are not aligned, or are hardly nearer than strangers and no pairs at all."""
    paired, strangers, spread = (report[f"cosine.{name}"] for name in ("paired.mean", "unpaired.mean", "unpaired.std"))
    if paired is None or strangers is None or spread is None:
        return "aligned"  # nothing says otherwise
    apart = separation(paired, Spread(strangers, spread))
    return spaces(apart, report["shuffled_cka.above"], report["linear_map.separation"])


def _headline(report: GapReport) -> str:
    match spaces_of(report):
        case "unrelated":
            return "The pairs do not belong together: they are no nearer than strangers"
        case "unaligned":
            return (
                "The pairs belong together, yet the two spaces are not aligned: only a map learnt on pairs joins them"
            )
    gap, separable = float(report["centroid_gap"] or 0), report["separability"]
    if gap < 0.1 and separable is not None and separable < 0.65:
        return "No gap to speak of: the modalities share one cloud"
    if gap < 0.1:
        return "No shift between the modalities" + (
            "" if separable is None else ", yet a straight cut tells them apart"
        )
    width = "narrow" if gap < 0.3 else "clear" if gap < 0.7 else "wide"
    share = constant_share(report)
    if share is None or gap < 0.3:
        return f"A {width} gap"
    kind = "most" if share > 0.6 else "half" if share > 0.4 else "part"
    return f"A {width} gap, {kind} of it one constant shift"


def _findings(report: GapReport) -> list[str]:
    found = spaces_of(report)
    if found == "unaligned":
        return _unaligned(report)
    out = [
        f"The mean image and the mean text are {report['centroid_gap']:.2f} apart, on a sphere of radius 1."
        + _separable(report["separability"])
    ]
    if found == "unrelated" and report["shuffled_cka.above"] is not None:
        out.insert(0, f"Neither are both sides ordered alike: {_shuffled(report)}.")
    share, agree = constant_share(report), report["constancy.direction_cosine"]
    if report["alignment"] is not None and share is not None:
        out.append(
            f"Of a pair's mean squared distance, {share:.0%} is this shift, the same for every pair"
            + (f" (it points the same way in every group of 100: cosine {agree:.3f})" if (agree or 0) > 0.95 else "")
            + f"; {1 - share:.0%} differs from pair to pair."
        )
    paired, texts = report["cosine.paired.mean"], report["cosine.text_text.mean"]
    if paired is not None and texts is not None:
        nearer = "further from its own caption than two unrelated captions are from each other"
        close = "nearer to its own caption than unrelated captions are to each other"
        out.append(f"An image is {nearer if paired < texts else close}: cosine {paired:.2f} against {texts:.2f}.")
    if report["recall.image_to_text.at_1"] is not None:
        out.append(
            f"Retrieval works across it all the same: the right text comes first for {report['recall.image_to_text.at_1']:.0%} "
            f"of the images among {report.n_text}, the right image for {report['recall.text_to_image.at_1']:.0%} of the texts."
            if report["recall.image_to_text.at_1"] > 0.1
            else f"Retrieval is weak: the right text comes first for {report['recall.image_to_text.at_1']:.1%} of the images."
        )
    return out


def _shuffled(report: GapReport) -> str:
    mean, std, above = (float(report[f"shuffled_cka.{part}"] or 0) for part in ("mean", "std", "above"))
    value = f"linear CKA of one text an image ({SHUFFLED} pairs at most) is {mean + above * std:.2f}"  # the table's is of all
    return f"{value}, and {mean:.2f} ± {std:.3f} with the pairs dealt out at random"


def _unaligned(report: GapReport) -> list[str]:
    """What tells two spaces that are not aligned from pairs that are wrong."""
    agreement, cosine, recall = (
        report[name] for name in ("neighbour_agreement", "linear_map.cosine", "linear_map.recall")
    )
    out = [
        f"Pairs are hardly nearer than strangers: cosine {report['cosine.paired.mean']:.2f} against "
        f"{report['cosine.unpaired.mean']:.2f}.",
        f"Yet both sides are ordered alike: {_shuffled(report)}"
        + ("." if agreement is None else f", and {agreement:.0%} of an image's neighbours are its text's."),
    ]
    if cosine is not None and recall is not None:
        out.append(
            f"A linear map (ridge) learnt on some of the pairs brings others to cosine {cosine:.2f}; the right text comes first "
            f"for {recall:.0%} of these images."
        )
    return out


def _separable(accuracy: float | None) -> str:
    if accuracy is None:
        return ""
    return f" A straight cut tells which is which in {accuracy:.0%} of held-out cases."


def _steps(report: GapReport) -> list[str]:
    found = spaces_of(report)
    if found == "unaligned":
        return [
            "Fit a linear map on pairs: adapter {linear: {method: ridge}}, a little noise behind it; and measure again behind it "
            "(--adapter '{linear: {method: ridge}}').",
            "What takes one shared space for granted does not apply: noise alone, a shift, centring or spread alone, a memory, "
            "retrieval.",
        ]
    if found == "unrelated":
        return ["Check how texts and images are paired (--pairs) before reading anything else in this report."]
    return [step for step in (_shift(report), _noise(report), _shape(report), _spread(report), _hubs(report)) if step]


def _shift(report: GapReport) -> str | None:
    if float(report["centroid_gap"] or 0) < 0.1:
        return None
    return (
        "Take the constant part away: a mean shift or centring needs only some unpaired images. "
        "Without any image, noise has to cover it as well, so train with more."
    )


def _noise(report: GapReport) -> str | None:
    std, cosine = report["noise.std"], report["noise.cosine"]
    if std is None or cosine is None:
        return None
    return (
        f"Cover what differs from pair to pair with noise: Gaussian of std {std:.3f} (cosine {cosine:.2f}) is as long as it. "
        "Captions trained on themselves want more than that, several captions of an image about that."
    )


def _shape(report: GapReport) -> str | None:
    rank = _sure(report, "residual.effective_rank")
    if rank is None or rank > report.dim / 2:
        return None
    return (
        f"That residual fills about {rank:.0f} of {report.dim} directions: with pairs at hand, covariance noise or a linear map "
        "fits it better than isotropic noise."
    )


def _spread(report: GapReport) -> str | None:
    ratio = report["trace_ratio"]
    if ratio is None or 0.9 <= ratio <= 1.1:
        return None
    wider, narrower = ("Images", "texts") if ratio > 1 else ("Texts", "images")
    return f"{wider} spread wider than {narrower} (ratio {ratio:.2f}): match the spread too, as ReAlign does."


def _hubs(report: GapReport) -> str | None:
    hubs = [side for side in ("text", "image") if (report[f"hubness.{side}"] or 0) > 2]
    if not hubs:
        return None
    return (
        f"A few {' and '.join(f'{side}s' for side in hubs)} answer far too many queries (hubness over 2): "
        "a softmax over a memory is safer than the nearest neighbour."
    )
