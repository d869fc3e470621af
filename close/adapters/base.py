"""The interface of everything that crosses the modality gap."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from inspect import Parameter, signature
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from close.adapters.advised import Advised
from close.adapters.noise import RowNoise
from close.adapters.rows import Adapted, Checked, check_shape, different_rows, matrix_of, unit_rows, unit_tensor
from close.adapters.specs import refuse_endless, split_spec
from close.data.rows import Modality
from close.errors import DataError, MismatchError, NotFittedError, RecipeError
from close.fast.precision import without_autocast
from close.registry import Registry, unknown_name
from close.vectors.groups import known_labels
from close.vectors.open import differing_ids

__all__ = [
    "ADAPTERS",
    "Chain",
    "GapAdapter",
    "Needs",
    "build_adapter",
    "options_of",
]

_log = logging.getLogger(__name__)

Needs = Literal["nothing", "text", "groups", "unpaired", "paired"]
_WANTED: dict[Needs, tuple[str, ...]] = {
    "nothing": (),
    "text": ("text",),
    "groups": ("text", "groups"),
    "unpaired": ("text", "image"),
    "paired": ("text", "image"),
}

WIDEST = 65_536
"""Dimensions at most: more is no adapter that anybody means."""

ADAPTERS: Registry[type[GapAdapter]] = Registry("adapter")


class GapAdapter(nn.Module):
    """Carries unit vectors of one modality to where the language model expects them.

    A member overrides `text` (the training side), `image` (the test side) or both; they take and return raw vectors, so that
    stages compose, and calling the adapter makes unit rows once, at the end. Randomness belongs to `text`, and only in training
    mode: in evaluation mode `noise` is None. What `text` does of a member that is `noise_alone` is done to images too where a
    model is trained on these.

    What is learnt from data lives in registered buffers whose shapes follow from `dim` and the options, so that a fitted
    adapter travels inside a checkpoint's safetensors. `needs` says which data `fit` asks for, `trusted` how many rows of them
    do no harm, `advice` its place in `close recommend`.

    Args:
        dim: width of the embeddings.
        renorm: make unit rows after this stage of a chain too.
        options: the options as given, for `spec`.
    """

    name: ClassVar[str]
    needs: ClassVar[Needs] = "nothing"
    noise_alone: ClassVar[bool] = False
    advice: ClassVar[tuple[Advised, ...]] = ()
    trusted: int = 0
    fitted: Tensor

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if cls.needs not in _WANTED:
            raise RecipeError(f"adapter {cls.__name__}: needs is one of {', '.join(_WANTED)}, not {cls.needs!r}")

    def __init__(self, dim: int, *, renorm: bool = False, options: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.renorm = renorm
        self.options = dict(options or {}) | ({"renorm": True} if renorm else {})
        self.learnt: dict[str, Any] = {}
        self.told, self.cautions = "", False
        self._is_fitted = self.needs == "nothing"
        self.register_buffer("fitted", torch.tensor(self._is_fitted))

    @property
    def all_needs(self) -> set[Needs]:
        """What it and its stages need."""
        return {self.needs}

    @property
    def wants(self) -> set[str]:
        """What `fit` has to be given: text, image, groups."""
        return set(_WANTED[self.needs])

    @property
    def findings(self) -> dict[str, Any]:
        """What `fit` found, by adapter: plain values."""
        return {self.name: self.learnt} if self.learnt else {}

    @property
    def is_fitted(self) -> bool:
        """Whether it may be used: nothing to learn, or learnt."""
        if not self._is_fitted:  # a yes is kept: an accelerator would be waited for at each step
            self._is_fitted = bool(self.fitted)
        return self._is_fitted

    def _load_from_state_dict(self, *args: Any) -> None:
        self._is_fitted = self.needs == "nothing"  # what is loaded says it anew
        super()._load_from_state_dict(*args)

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """Training side: (B, dim) → (B, dim); `noise` is None outside training."""
        return x

    def image(self, x: Tensor) -> Tensor:
        """Test side: (B, dim) → (B, dim)."""
        return x

    def side(self, x: Tensor, modality: Modality, noise: RowNoise | None = None) -> Tensor:
        """The side that `modality` names; images with `noise` are those that a model is trained on."""
        noised = noise is not None and self.noise_alone
        return self.text(x, noise) if modality == "text" or noised else self.image(x)

    def fit(self, *, text: Any = None, image: Any = None, groups: Any = None, quiet: bool = False) -> GapAdapter:
        """Learn from embeddings what `needs` names; returns self.

        Args:
            text, image: (N, dim) and (M, dim): array or tensor, whose rows are brought to unit length, or `EmbeddingTable`;
                N = M and paired by row where `needs` is "paired".
            groups: (N,) labels of the texts: captions of one image share theirs.
            quiet: do not log what was learnt, nor warn that data are few.
        Raises:
            DataError: data that `needs` names is not given, or is too little; a label is NaN or None.
            MismatchError: widths differ, or pairs or groups are of different lengths. RecipeError: it has no buffer to fill.
        """
        text, image = self._units(text, image)
        groups = None if groups is None else known_labels(groups)
        self._check_fit(text, image, groups)
        self.learn(Checked(text, "text", self.name, groups), Checked(image, "image", self.name))
        self.fitted.fill_(True)
        if not quiet and self.wants:
            self._tell(text, image, groups)
        return self

    def learn(self, text: Any, image: Any) -> None:
        """Fill the buffers; `fit` has checked the data, and `text.groups` are the texts' labels where they are given.

        What is worth telling goes into `learnt`, plain values, and in one line into `told`, which `cautions` where data are few.
        """

    def _units(self, text: Any, image: Any) -> tuple[Any, Any]:
        """Both sides as unit rows; None stays."""
        return unit_rows(text, f"adapter {self.name!r}: text"), unit_rows(image, f"adapter {self.name!r}: image")

    def _tell(self, text: Any, image: Any, groups: Any) -> None:
        """One line on what was learnt, if there is one; a warning where it was learnt from too little, or pairs look odd."""
        sides = {side: rows for side, rows in (("image", image), ("text", text)) if side in self.wants}
        counts = [(different_rows(rows, self.trusted), f"different {side} rows") for side, rows in sides.items()]
        if "text" in sides and groups is not None:
            counts.append((len(np.unique(np.asarray(groups))), "images"))  # its captions count once, as in the advice
        rows, what = min(counts)
        few = ""
        if rows < self.trusted:
            few = f"{rows} {what} are few, and may do harm: it is to be trusted from {self.trusted} on "
            few += "(experiments/shared)"
        odd = differing_ids(text, image) if self.needs == "paired" else ""
        if told := "; ".join(filter(None, (self.told, few, odd))):
            level = logging.WARNING if self.cautions or few or odd else logging.INFO
            _log.log(level, "adapter %r: %s", self.name, told)

    def _check_fit(self, text: Any, image: Any, groups: Any) -> None:
        wanted = _WANTED[self.needs]
        if wanted and self.state_dict().keys() == {"fitted"} and type(self).save_files is GapAdapter.save_files:
            raise RecipeError(
                f"adapter {self.name!r} learns from data, and has no place where that is kept: a saved one would have learnt "
                "nothing; make a tensor of it in __init__, self.register_buffer(NAME, torch.zeros(…)), and fill it in learn"
            )
        given = {"text": text, "image": image, "groups": groups}
        missing = [f"{side} embeddings" if side != "groups" else "groups" for side in wanted if given[side] is None]
        if missing:
            call = ", ".join(f"{side}=…" for side in wanted)
            raise DataError(
                f"adapter {self.name!r} needs {self.needs} data, and {' and '.join(missing)} are missing: "
                f"fit({call}), or in a recipe {self.how_to_fit()}"
            )
        for side in [side for side in wanted if side != "groups"]:
            check_shape(given[side], self.dim, f"adapter {self.name!r}: {side} embeddings")
            if (rows := given[side].shape[0]) < 2:
                raise DataError(f"adapter {self.name!r}: {rows} {side} rows, at least 2 are needed")
        if self.needs == "groups" and np.shape(groups) != (len(text),):
            raise MismatchError(
                f"adapter {self.name!r}: expected a label for each of {len(text)} texts, got groups of shape {np.shape(groups)}"
            )
        if self.needs == "paired" and len(text) != len(image):
            raise MismatchError(
                f"adapter {self.name!r} needs pairs: {len(text)} text rows and {len(image)} image rows are not paired by row"
            )

    @classmethod
    def how_to_fit(cls) -> str:
        """How a recipe has it fitted."""
        sides = ", ".join(f"{side}: {'DATA_FILE' if side == 'groups' else 'TABLE'}" for side in _WANTED[cls.needs])
        return f"{{{cls.name}: {{fit: {{{sides}}}}}}}"

    def extra_repr(self) -> str:
        """Width, options, and whether it is fitted, for the module's repr."""
        learns = self.all_needs != {"nothing"} and not self.fitted.is_meta
        told = [f"{key}={value!r}" for key, value in self.options.items()]
        return ", ".join(
            [f"dim={self.dim}", *told, *(["fitted" if self.is_fitted else "not fitted"] if learns else [])]
        )

    def forward(self, x: Any, modality: Modality, seeds: Tensor | None = None, *, noisy: bool = True) -> Any:
        """Unit rows, adapted on the side that `modality` names.

        Args:
            x: (B, dim) tensor, for which a tensor is returned; or an array or `EmbeddingTable`, for which a float32 array is. Its
                rows are brought to unit length, as `fit` does; of a tensor with seeds, as training gives it, they have to be.
            seeds: (B,) int64 noise seeds (`row_seeds`); drawn from torch's generator when training without them.
            noisy: False leaves the noise out in training too.
        Raises:
            NotFittedError: `fit` was not called where it has to be.
            RecipeError: unknown modality.
            DataError: it is no (B, dim) matrix, or a row of it is not finite, or of an array zero (named).
            MismatchError: it has another width; or the adapter made another shape of it.
        """
        if not isinstance(x, Tensor):
            rows = matrix_of(x, self.dim, f"adapter {self.name!r}").to(self.fitted.device)
            with torch.no_grad():
                return self.forward(rows, modality, seeds, noisy=noisy).cpu().numpy()
        if not self.is_fitted:
            raise NotFittedError(f"adapter {self.name!r} is not fitted: call fit(text=…, image=…) or load a fitted one")
        if modality not in ("text", "image"):
            raise RecipeError(f"modality is 'text' or 'image', not {modality!r}")
        noise, x = None, unit_tensor(x, self.dim, f"adapter {self.name!r}") if seeds is None else x
        if self.training and noisy:
            if seeds is None:
                seeds = torch.randint(torch.iinfo(torch.int64).max, (len(x),), device=x.device)
            noise = RowNoise(seeds)
        with without_autocast(x.device):  # as in use: what is trained and judged in bf16 lies behind another adapter
            moved = self.side(x, modality, noise)
            if moved.shape != x.shape:
                made = f"{tuple(moved.shape)} of {tuple(x.shape)}"
                raise MismatchError(f"adapter {self.name!r}: its {modality} side made {made}, expected the same shape")
            return F.normalize(moved, dim=-1)

    def save_files(self, folder: Path) -> None:
        """Write what is too large for a checkpoint's tensors beside them; nothing for most."""

    def load_files(self, folder: Path) -> None:
        """Find beside a checkpoint's loaded tensors what `save_files` wrote there."""

    def spec(self) -> Any:
        """How a recipe names this adapter: `name` or `{name: options}`."""
        return {self.name: dict(self.options)} if self.options else self.name


class Chain(GapAdapter):
    """Stages one after the other; raw vectors in between, unit rows at the end."""

    name = "chain"

    def __init__(self, dim: int, stages: Sequence[GapAdapter]) -> None:
        super().__init__(dim)
        self.stages = nn.ModuleList(stages)
        self._kept: set[int] | None = None

    @property
    def members(self) -> list[GapAdapter]:
        """The stages, typed."""
        return [stage for stage in self.stages if isinstance(stage, GapAdapter)]

    @property
    def all_needs(self) -> set[Needs]:
        """What the stages need."""
        return set().union(*(stage.all_needs for stage in self.members))

    @property
    def findings(self) -> dict[str, Any]:
        """What the stages learnt."""
        return {name: found for stage in self.members for name, found in stage.findings.items()}

    @property
    def is_fitted(self) -> bool:
        """Whether every stage may be used."""
        return all(stage.is_fitted for stage in self.members)

    def fit(self, *, text: Any = None, image: Any = None, groups: Any = None, quiet: bool = False) -> GapAdapter:
        """Fit the stages in turn, each on what the stages before it make of the data (noise left out).

        Stages that were fitted before the chain was stay as they are.
        """
        if self._kept is None:
            self._kept = {place for place, stage in enumerate(self.members) if stage.is_fitted}
        text, image = self._units(text, image)
        for place, stage in enumerate(self.members):
            if place not in self._kept:
                stage.fit(text=text, image=image, groups=groups, quiet=quiet)
            text = None if text is None else Adapted(text, stage, "text")
            image = None if image is None else Adapted(image, stage, "image")
        return self

    def side(self, x: Tensor, modality: Modality, noise: RowNoise | None = None) -> Tensor:
        """The stages' sides in turn."""
        for stage in self.members:
            x = stage.side(x, modality, noise)
            x = F.normalize(x, dim=-1) if stage.renorm else x
        return x

    def text(self, x: Tensor, noise: RowNoise | None) -> Tensor:
        """The stages' text sides in turn."""
        return self.side(x, "text", noise)

    def image(self, x: Tensor) -> Tensor:
        """The stages' image sides in turn."""
        return self.side(x, "image")

    def save_files(self, folder: Path) -> None:
        """The stages' files."""
        for stage in self.members:
            stage.save_files(folder)

    def load_files(self, folder: Path) -> None:
        """The stages' files."""
        for stage in self.members:
            stage.load_files(folder)

    def spec(self) -> Any:
        """The stages' specs."""
        return [stage.spec() for stage in self.members]


def build_adapter(spec: Any, dim: int) -> GapAdapter:
    """An adapter from its recipe: a name, `{name: options}`, or a list of these (a chain).

    Raises:
        UnknownNameError: no such adapter; the nearest is told.
        RecipeError: the options are not the adapter's.
    """
    if isinstance(spec, GapAdapter):
        return spec
    refuse_endless(spec)
    if not isinstance(dim, Integral) or isinstance(dim, bool) or not 1 <= dim <= WIDEST:
        raise RecipeError(f"an adapter is for 1 to {WIDEST} dimensions, not {dim!r}")
    dim = int(dim)
    if isinstance(spec, (list, tuple)):
        return Chain(dim, [build_adapter(stage, dim) for stage in spec]) if spec else build_adapter("none", dim)
    name, options = split_spec(spec)
    kind = ADAPTERS[name]
    known = options_of(kind)
    for key in options:
        if key not in known:
            raise unknown_name(f"option of adapter {name!r}", key, known)
    for key, parameter in known.items():
        if parameter.default is parameter.empty and key not in options:
            raise RecipeError(f"adapter {name!r} needs the option {key!r}")
    return kind(dim, **options)


def options_of(kind: type[GapAdapter]) -> dict[str, Parameter]:
    """The options that an adapter's recipe may give, by name."""
    return {key: value for key, value in signature(kind).parameters.items() if key not in ("dim", "options")}
