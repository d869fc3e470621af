"""Opening recordings, and cutting long ones into windows."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from math import gcd
from pathlib import Path
from threading import Lock
from typing import IO, Any, Literal

import numpy as np
from numpy.typing import NDArray

from close.errors import DataError, reason
from close.io.media import SOUND_SUFFIXES, describe, missing_file

__all__ = [
    "LONGEST",
    "SOUND_SUFFIXES",
    "WINDOWS",
    "heard",
    "heard_parts",
    "is_silent",
    "numpy_seeded",
    "open_sound",
    "sound_windows",
]

LONGEST = 3600
"""Seconds of the longest recording that is decoded."""
SLOWEST, FASTEST = 1_000, 768_000
"""Samples a second that a recording may have: resampling takes memory by them, whatever its length."""
MOST = 2**29
"""Samples of all channels that are decoded: 2 GiB, which silence packs into a few megabytes."""
WINDOWS = 32
"""How many windows a long recording is cut into at most."""
_WAV = (b"RIFF", b"RIFX", b"RF64")
_SILENCE = 1e-5
"""A third of the least step of 16 bits."""
_NUMPY_RANDOM = Lock()
Samples = NDArray[np.float32]


def open_sound(item: Any, rate: int) -> Samples:
    """A recording as (samples,) float32 of one channel, `rate` a second.

    It is given as a path, an open file or its bytes: WAV, or with the package soundfile FLAC, Ogg and MP3 as well, whatever its
    name is; channels are averaged (where they cancel each other, the first counts), and other rates resampled. Or as a (samples,)
    array at that rate: of finite floats, or of integers as WAV files hold them, whose full scale becomes 1.

    Raises:
        MissingError: no such file.
        DataError: not a recording, damaged, without a sample, longer than an hour, larger or of another rate than any that is
            taken, or an array of another kind.
    """
    if isinstance(item, (bytes, bytearray, memoryview)):
        return _decoded(BytesIO(item), f"recording in {describe(item)}", rate)
    if isinstance(item, (str, os.PathLike)):
        path, name = Path(item), f"recording {describe(item)}"
        if not path.is_file():
            raise missing_file("recording", path)
        with path.open("rb") as file:
            return _decoded(file, name, rate)
    if hasattr(item, "read"):
        return _decoded(item, f"recording {describe(item)}", rate)
    array = np.asarray(item)
    if array.dtype.kind not in "fiu" or array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise DataError(
            f"an array of a recording is (samples,) finite floats, or integers, at {rate} Hz, not {array.dtype} {array.shape}"
        )
    _check_length(len(array) / rate, "an array of a recording")
    return _scaled(array)


def is_silent(samples: Samples) -> bool:
    """Whether nothing can be heard in it."""
    return bool(np.abs(samples).max() < _SILENCE)


def heard(item: Any, rate: int, tell: Callable[[str, str], None]) -> Samples:
    """`open_sound`, which tells of a recording in which nothing can be heard.

    Args:
        tell: an encoder's `tell_once`.
    """
    samples = open_sound(item, rate)
    if is_silent(samples):
        tell("silent", f"{describe(item)} is silent: its vector is that of silence (other silent ones are not named)")
    return samples


def sound_windows(samples: Samples, length: int) -> list[Samples]:
    """A recording as windows of at most `length` samples: itself, or as few as cover it, evenly laid, the last one at its end.

    At most 32: of a recording more than that many windows long, they leave gaps between them.
    """
    if len(samples) <= length:
        return [samples]
    count = min(-(-len(samples) // length), WINDOWS)
    starts = np.linspace(0, len(samples) - length, count).round().astype(int)
    return [samples[start : start + length] for start in starts]


def heard_parts(samples: Samples, extractor: Any) -> list[Samples]:
    """A recording as the windows that a feature extractor of transformers takes; whole, where it takes long ones (`fusion`)."""
    takes_long = getattr(extractor, "truncation", "fusion") == "fusion"
    return [samples] if takes_long else sound_windows(samples, int(extractor.nb_max_samples))


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """numpy's global generator at a seed, for one thread at a time; afterwards as it was, errors included.

    CLAP's extractor draws parts of what is long from it.
    """
    with _NUMPY_RANDOM:
        before = np.random.get_state()
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(before)


def _decoded(file: IO[bytes], name: str, rate: int) -> Samples:
    start = file.read(4)
    file.seek(0)
    if not start:
        raise DataError(f"{name} is empty (0 bytes)")
    try:
        samples, own_rate = _read_wav(file, name) if start in _WAV else _read_other(file, name)
    except DataError:
        raise
    except Exception as error:  # decoders raise whatever they meet in a damaged file
        raise DataError(f"{name} can't be read: {reason(error)}") from None
    if not samples.size:
        raise DataError(f"{name} holds no sound (no samples)")
    if not np.isfinite(samples).all():
        raise DataError(f"{name} holds samples that are not finite")
    return _resampled(samples, own_rate, rate)


def _read_wav(file: IO[bytes], name: str) -> tuple[Samples, int]:
    from scipy.io import wavfile

    _refuse_cut(file)
    warnings.filterwarnings("ignore", category=wavfile.WavFileWarning)  # of chunks that hold no sound
    try:
        rate, samples = wavfile.read(file)
    except ValueError as error:  # of compressed ones, such as mu-law
        if not _has_soundfile():
            raise
        file.seek(0)
        try:
            return _by_soundfile(file, name)
        except DataError:
            raise
        except Exception:
            raise error from None
    channels = samples.shape[1] if samples.ndim == 2 else 1
    _check_size(len(samples), int(rate), channels, name)
    return _mono(_scaled(samples).reshape(len(samples), channels)), int(rate)


def _scaled(samples: NDArray[Any]) -> Samples:
    """As float32, of integers from -1 to 1."""
    found: Samples = samples.astype(np.float32)
    if samples.dtype == np.uint8:  # WAV stores 8 bits unsigned
        found = np.subtract(found / 128, 1, dtype=np.float32)
    elif np.issubdtype(samples.dtype, np.integer):
        found = np.divide(found, np.iinfo(samples.dtype).max + 1, dtype=np.float32)
    return found


def _mono(channels: Samples) -> Samples:
    """(samples, channels) as one: their mean, or the first where they cancel each other."""
    mean: Samples = channels.mean(1)
    return channels[:, 0] if len(mean) and is_silent(mean) and not is_silent(channels) else mean


def _refuse_cut(file: IO[bytes]) -> None:
    """A WAV file that is shorter than its header says; what was written to a pipe says no length, or one of 2 GB and more."""
    order: Literal["little", "big"] = "big" if file.read(4) == b"RIFX" else "little"
    said = 8 + int.from_bytes(file.read(4), order)
    found = file.seek(0, os.SEEK_END)
    file.seek(0)
    if found < said < 2**31:
        raise ValueError(f"it is cut off: {found:,} of {said:,} bytes are there")


def _read_other(file: IO[bytes], name: str) -> tuple[Samples, int]:
    if not _has_soundfile():
        raise DataError(
            f"{name} is no WAV, and other recordings are read by the package soundfile: pip install 'close-toolkit[sound]'"
        )
    try:
        return _by_soundfile(file, name)
    except DataError:
        raise
    except Exception as error:
        told = reason(error).rpartition(">: ")[2]  # it names the file object
        raise DataError(f"{name} is no WAV, FLAC, Ogg or MP3 that can be read: {told}") from None


def _has_soundfile() -> bool:
    try:
        import soundfile  # noqa: F401
    except (ImportError, OSError):  # OSError: without the library that it wraps
        return False
    return True


def _by_soundfile(file: IO[bytes], name: str) -> tuple[Samples, int]:
    import soundfile

    with soundfile.SoundFile(file) as sound:
        _check_size(sound.frames, sound.samplerate, sound.channels, name)
        return _mono(sound.read(dtype="float32", always_2d=True)), int(sound.samplerate)


def _check_size(frames: int, rate: int, channels: int, name: str) -> None:
    """Refuse what a header says, before memory is taken for it."""
    if not SLOWEST <= rate <= FASTEST:
        raise DataError(
            f"{name} says that it has {rate:,} samples a second, and {SLOWEST:,} to {FASTEST:,} are taken: resample it"
        )
    _check_length(frames / rate, name)
    if frames * channels > MOST:
        raise DataError(
            f"{name} holds {frames * channels:,} samples, and at most {MOST:,} are taken: cut it into pieces, or mix its channels"
        )


def _check_length(seconds: float, name: str) -> None:
    if seconds > LONGEST:
        raise DataError(
            f"{name} is {seconds / 60:,.0f} minutes long, and at most {LONGEST // 60} are taken: cut it into pieces"
        )


def _resampled(samples: Samples, own_rate: int, rate: int) -> Samples:
    from scipy.signal import resample_poly

    if own_rate == rate:
        return samples.astype(np.float32)
    shared = gcd(rate, own_rate)
    return np.asarray(resample_poly(samples, rate // shared, own_rate // shared), np.float32)
