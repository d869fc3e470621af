"""The names of all measures, what each says, and what a healthy value is: one place for JSON, tables and reports."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CATALOGUE", "NAMES", "Measure"]


@dataclass(frozen=True)
class Measure:
    """One number of a gap report.

    Attributes:
        name: its place in the JSON, dotted.
        family: the heading it stands under.
        title: a few words.
        meaning: the formula or the question it answers, in a line.
        healthy: what is healthy, in words.
        low, high: the healthy range where there is one; None is open.
    """

    name: str
    family: str
    title: str
    meaning: str
    healthy: str
    low: float | None = None
    high: float | None = None

    @property
    def has_range(self) -> bool:
        """Whether a value can be called healthy or not at all."""
        return self.low is not None or self.high is not None

    def is_healthy(self, value: float) -> bool:
        """Whether the value lies in the healthy range."""
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


WIDTH, SHAPE, RESIDUAL, CLOUDS, ORDER = (
    "How far apart",
    "The gap as a vector",
    "What a shift leaves over",
    "The two clouds",
    "Order and structure",
)

CATALOGUE: tuple[Measure, ...] = (
    Measure("centroid_gap", WIDTH, "Centroid gap", "‖μ_v − μ_t‖", "under 0.1; CLIP models 0.7–1.1", high=0.1),
    Measure(
        "pair_distance", WIDTH, "Pair distance", "mean ‖v − t‖", "under 0.8; CLIP 1.1–1.25; unrelated 1.41", high=0.8
    ),
    Measure("rmg", WIDTH, "Relative modality gap", "a/(a + (b + c)/2)", "under 0.35; CLIP 0.5–0.65", high=0.35),
    Measure("cosine.paired.mean", WIDTH, "Cosine, pairs", "mean v·t of a pair", "over 0.6; CLIP 0.25–0.35", low=0.6),
    Measure("cosine.paired.std", WIDTH, "  spread", "standard deviation", "small against paired − unpaired"),
    Measure(
        "cosine.unpaired.mean", WIDTH, "Cosine, strangers", "mean v·t of no pair", "near 0; CLIP 0.05–0.2", -0.1, 0.1
    ),
    Measure("cosine.unpaired.std", WIDTH, "  spread", "standard deviation", "small against paired − unpaired"),
    Measure("cosine.text_text.mean", WIDTH, "Cosine, texts", "mean t·t′", "under 0.2; CLIP 0.3–0.6", high=0.2),
    Measure("cosine.text_text.std", WIDTH, "  spread", "standard deviation", "no norm"),
    Measure("cosine.image_image.mean", WIDTH, "Cosine, images", "mean v·v′", "under 0.2; CLIP 0.4–0.6", high=0.2),
    Measure("cosine.image_image.std", WIDTH, "  spread", "standard deviation", "no norm"),
    Measure(
        "cosine.same_image_captions.mean",
        WIDTH,
        "Cosine, captions of one image",
        "mean t·t′ of one image",
        "0.7–0.85; the paired cosine's bound without a gap",
    ),
    Measure("cosine.same_image_captions.std", WIDTH, "  spread", "standard deviation", "no norm"),
    Measure("alignment", WIDTH, "Alignment", "mean ‖v − t‖²", "under 0.8; CLIP 1.3–1.5", high=0.8),
    Measure(
        "separability",
        WIDTH,
        "Linear separability",
        "held-out accuracy, image or text?",
        "0.5–0.65; every CLIP model 1.0",
        high=0.65,
    ),
    Measure("constancy.length_cv", SHAPE, "Length varies", "sd/mean of ‖Δ‖, groups of 100", "under 0.05", high=0.05),
    Measure("constancy.direction_cosine", SHAPE, "Direction agrees", "mean cos(Δ_group, Δ)", "over 0.95", low=0.95),
    Measure(
        "constancy.orthogonality",
        SHAPE,
        "Leans on content",
        "mean |cos(x − x′, Δ)|",
        "under 0.1; random √(2/πD)",
        high=0.1,
    ),
    Measure(
        "dimension.top10_gap_share",
        SHAPE,
        "Held by 10 dimensions",
        "share of Σ|Δ_k|",
        "under 0.2; CLIP about 0.2; even is 10/D",
        high=0.2,
    ),
    Measure("residual.per_dim_mean", RESIDUAL, "Mean per dimension", "mean |mean r_k|", "0", high=0.001),
    Measure("residual.per_dim_std", RESIDUAL, "Std per dimension", "√(mean variance of r_k)", "under half of 1/√D"),
    Measure("residual.norm", RESIDUAL, "Length", "mean ‖r‖", "under 0.5; CLIP about 0.8", high=0.5),
    Measure(
        "residual.consecutive_cosine", RESIDUAL, "Neighbours in file", "mean cos(r_i, r_{i+1})", "0 ± 0.05", -0.05, 0.05
    ),
    Measure(
        "residual.participation_ratio", RESIDUAL, "Participation ratio", "(Σλ)²/Σλ²", "near D: isotropic noise fits"
    ),
    Measure("residual.effective_rank", RESIDUAL, "Effective rank", "exp H(λ/Σλ)", "near D: isotropic noise fits"),
    Measure("residual.top10_share", RESIDUAL, "Top 10 directions", "share of Σλ", "near 10/D: isotropic noise fits"),
    Measure(
        "residual.normality_p",
        RESIDUAL,
        "Normality p",
        "median over dimensions, K² test",
        "over 0.05: Gaussian",
        low=0.05,
    ),
    Measure("noise.std", RESIDUAL, "Noise like it, std", "√(E‖r‖²/D)", "what Gaussian noise of that size needs"),
    Measure("noise.cosine", RESIDUAL, "Noise like it, cosine", "1/√(1 + w²D)", "papers: 0.29, 0.41 (CLOSE), 0.67"),
    Measure(
        "caption_spread.std",
        RESIDUAL,
        "Captions of one image, std",
        "within an image",
        "CLIP about 0.6 of the noise above",
    ),
    Measure("caption_spread.linf", RESIDUAL, "  mean ℓ∞ distance", "CapDec's noise", "no norm"),
    Measure(
        "uniformity.text",
        CLOUDS,
        "Uniformity, texts",
        "log mean exp(−2‖t − t′‖²)",
        "under −2.5; CLIP −1.5 to −2.2",
        high=-2.5,
    ),
    Measure(
        "uniformity.image",
        CLOUDS,
        "Uniformity, images",
        "log mean exp(−2‖v − v′‖²)",
        "under −2.5; CLIP −1.5 to −2.2",
        high=-2.5,
    ),
    Measure("uniformity.cross", CLOUDS, "Uniformity, across", "log mean exp(−2‖v − t‖²)", "like the other two"),
    Measure("cone.text", CLOUDS, "Cone of texts", "‖μ_t‖", "under 0.4; CLIP 0.5–0.8", high=0.4),
    Measure("cone.image", CLOUDS, "Cone of images", "‖μ_v‖", "under 0.4; CLIP 0.5–0.8", high=0.4),
    Measure("trace_ratio", CLOUDS, "Trace ratio", "√(Tr Σ_v/Tr Σ_t)", "0.9–1.1", 0.9, 1.1),
    Measure("dimension.std_ratio_median", CLOUDS, "Ratio per dimension", "median σ_v/σ_t", "0.9–1.1", 0.9, 1.1),
    Measure("frechet.raw", CLOUDS, "Fréchet distance", "squared, of Gaussians", "under 0.2; CLIP 1.0–1.3", high=0.2),
    Measure("frechet.centred", CLOUDS, "  after centring", "what no shift removes", "under 0.2", high=0.2),
    Measure("mmd", CLOUDS, "MMD²", "unbiased, RBF, median width", "under 0.01; CLIP 0.3–0.6", high=0.01),
    Measure("sliced_w2", CLOUDS, "Sliced Wasserstein-2", "√(mean W₂²)", "near 0; a pure shift gives ‖Δ‖/√D"),
    Measure("coral", CLOUDS, "CORAL", "‖Σ_v − Σ_t‖_F", "small against ‖Σ_t‖_F"),
    Measure("recall.image_to_text.at_1", ORDER, "Image → text, R@1", "right text is first", "high; chance is 1/N"),
    Measure("recall.image_to_text.at_5", ORDER, "  R@5", "among 5", "high; chance is 5/N"),
    Measure("recall.image_to_text.at_10", ORDER, "  R@10", "among 10", "high; chance is 10/N"),
    Measure("recall.text_to_image.at_1", ORDER, "Text → image, R@1", "right image is first", "high; chance is 1/N"),
    Measure("recall.text_to_image.at_5", ORDER, "  R@5", "among 5", "high; chance is 5/N"),
    Measure("recall.text_to_image.at_10", ORDER, "  R@10", "among 10", "high; chance is 10/N"),
    Measure(
        "neighbour_agreement",
        ORDER,
        "Neighbour agreement",
        "|N(v) ∩ N(t)|/10",
        "over 0.4; CLIP 0.3; chance is 10/N",
        low=0.4,
    ),
    Measure("cka", ORDER, "Linear CKA", "same inner structure?", "over 0.5; 1 is the same", low=0.5),
    Measure(
        "procrustes_residual",
        ORDER,
        "Procrustes residual",
        "mean ‖vR − t‖², best R",
        "under 0.4; alignment without R",
        high=0.4,
    ),
    Measure(
        "hubness.text",
        ORDER,
        "Hubness of texts",
        "skewness of 10-occurrence",
        "under 1; CLIP 1.3–1.9; hubs above 2",
        high=1.0,
    ),
    Measure(
        "hubness.image",
        ORDER,
        "Hubness of images",
        "skewness of 10-occurrence",
        "under 1; CLIP 1.3–1.9; hubs above 2",
        high=1.0,
    ),
)

NAMES: tuple[str, ...] = tuple(measure.name for measure in CATALOGUE)
