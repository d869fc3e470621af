"""Recordings: what is read, how long ones are cut, and what is told of those that can't be used."""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import pytest
import tiny
import torch
from scipy.io import wavfile
from torch.nn import functional as F

from close.data.shards import open_rows
from close.encoders import load_encoder
from close.encoders.sounds import WINDOWS, is_silent, open_sound, sound_windows
from close.errors import DataError, MissingError

RATE = 8_000


@pytest.fixture(scope="module")
def clap(zoo):
    return load_encoder(str(zoo("hf_clap_dir")), device="cpu")


@pytest.mark.parametrize("rate", [4_000, 8_000, 11_025, 44_100])
def test_a_tone_keeps_its_pitch_and_level_at_any_rate(tmp_path, rate):
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    wavfile.write(tmp_path / "tone.wav", rate, tone)
    found = open_sound(tmp_path / "tone.wav", RATE)
    assert len(found) == RATE
    spectrum = np.abs(np.fft.rfft(found))
    assert spectrum.argmax() == 440
    assert np.sqrt(np.mean(found[400:-400] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3"])
def test_other_formats_sound_alike_whatever_their_name_and_place(tmp_path, ending):
    soundfile = pytest.importorskip("soundfile", reason="the extra `sound` is not installed")
    time = np.arange(2 * RATE) / RATE
    left = 0.4 * np.sin(2 * np.pi * 300 * time)
    path = tmp_path / f"two.{ending}"
    soundfile.write(path, np.stack([left, 0 * left], axis=1), RATE)
    renamed = tmp_path / "no_ending"
    renamed.write_bytes(path.read_bytes())
    found = open_sound(path, RATE)
    assert np.abs(np.fft.rfft(found[: 2 * RATE])).argmax() == pytest.approx(600, abs=1)
    assert np.sqrt(np.mean(found**2)) == pytest.approx(0.2 / np.sqrt(2), rel=0.05)
    with path.open("rb") as file:
        others = [open_sound(item, RATE) for item in (renamed, path.read_bytes(), file)]
    assert all(np.array_equal(found, other) for other in others)


def test_a_compressed_wav_needs_the_extra_and_is_read_with_it(tmp_path, monkeypatch):
    soundfile = pytest.importorskip("soundfile", reason="the extra `sound` is not installed")
    tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(RATE) / RATE)
    soundfile.write(tmp_path / "telephone.wav", tone, RATE, subtype="ULAW")
    assert np.abs(open_sound(tmp_path / "telephone.wav", RATE) - tone).max() < 0.02
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(DataError, match=r"telephone\.wav can't be read"):
        open_sound(tmp_path / "telephone.wav", RATE)
    (tmp_path / "song.flac").write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(DataError, match=r"song\.flac is no WAV.*pip install 'close-toolkit\[sound\]'"):
        open_sound(tmp_path / "song.flac", RATE)


def test_what_is_no_recording_is_told_in_one_line(tmp_path):
    whole = tiny.sound(tmp_path / "whole.wav", seconds=1).read_bytes()
    wavfile.write(tmp_path / "none.wav", RATE, np.zeros(0, np.int16))
    wavfile.write(tmp_path / "nan.wav", RATE, np.full(800, np.nan, np.float32))
    wavfile.write(tmp_path / "long.wav", 1000, np.zeros(3_700_000, np.uint8))
    wavfile.write(tmp_path / "slow.wav", 999, np.zeros(800, np.int16))
    wavfile.write(tmp_path / "fast.wav", 2**31 - 1, np.zeros(8, np.int16))  # its filter would take 344 GB
    for name, content in {
        "empty.mp3": b"",
        "cut.wav": whole[:9000],
        "text.wav": b"not a sound",
        "x.flac": b"?",
    }.items():
        (tmp_path / name).write_bytes(content)
    told = {
        "none.wav": "holds no sound",
        "nan.wav": "not finite",
        "long.wav": "62 minutes long, and at most 60",
        "slow.wav": "says that it has 999 samples a second, and 1,000 to 768,000 are taken",
        "fast.wav": "says that it has 2,147,483,647 samples a second",
        "empty.mp3": r"empty \(0 bytes\)",
        "cut.wav": "cut off: 9,000 of 32,044 bytes",
        "text.wav": "is no WAV",
        "x.flac": "is no WAV",
    }
    for name, message in told.items():
        with pytest.raises(DataError, match=message) as raised:
            open_sound(tmp_path / name, RATE)
        assert name in str(raised.value)
        assert "\n" not in str(raised.value)
    for wrong in (tmp_path / "gone.wav", tmp_path):
        with pytest.raises(MissingError, match="no such file"):
            open_sound(wrong, RATE)


def test_what_would_take_too_much_memory_is_refused_before_it_is_decoded(tmp_path):
    """Silence packs well: a few megabytes may hold gigabytes."""
    soundfile = pytest.importorskip("soundfile", reason="the extra `sound` is not installed")
    with soundfile.SoundFile(tmp_path / "silence.flac", "w", 192_000, 8) as file:
        for _ in range(360):
            file.write(np.zeros((192_000, 8), np.int16))
    with pytest.raises(DataError, match=r"silence\.flac holds 552,960,000 samples, and at most 536,870,912 are taken"):
        open_sound(tmp_path / "silence.flac", RATE)


def test_channels_count_for_what_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr("close.encoders.sounds.MOST", 1_000)
    for channels in (1, 2):
        wavfile.write(tmp_path / f"{channels}.wav", RATE, np.ones((800, channels), np.int16))
    assert len(open_sound(tmp_path / "1.wav", RATE)) == 800
    with pytest.raises(DataError, match=r"2\.wav holds 1,600 samples, and at most 1,000 are taken"):
        open_sound(tmp_path / "2.wav", RATE)


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64])
def test_an_array_is_heard_as_the_file_it_was_read_from(tmp_path, kind):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    samples = tone.astype(kind)
    if np.issubdtype(kind, np.integer):
        middle = 128 if kind is np.uint8 else 0
        samples = (middle + tone * np.iinfo(kind).max / (2 if middle else 1)).astype(kind)
    wavfile.write(tmp_path / "tone.wav", RATE, samples)
    rate, read = wavfile.read(tmp_path / "tone.wav")
    assert (rate, read.dtype) == (RATE, kind)
    found = open_sound(read, RATE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, open_sound(tmp_path / "tone.wav", RATE))
    np.testing.assert_allclose(found, tone, atol=0.01)


def test_a_wav_written_to_a_pipe_says_no_length_and_is_read(tmp_path):
    whole = bytearray(tiny.sound(tmp_path / "whole.wav", rate=RATE).read_bytes())
    whole[4:8] = whole[40:44] = b"\xff\xff\xff\xff"
    (tmp_path / "piped.wav").write_bytes(whole)
    assert np.array_equal(*(open_sound(tmp_path / f"{name}.wav", RATE) for name in ("whole", "piped")))


@pytest.mark.parametrize("length", [1, 99, 100, 101, 200, 250, 3200, 10_000])
def test_windows_cover_a_recording_from_its_start_to_its_end(length):
    samples = np.arange(length, dtype=np.float32)
    windows = sound_windows(samples, 100)
    assert len(windows) == min(-(-length // 100), WINDOWS)
    assert all(len(window) == min(length, 100) for window in windows)
    assert (windows[0][0], windows[-1][-1]) == (0, length - 1)
    if length <= 100 * WINDOWS:
        assert np.array_equal(np.unique(np.concatenate(windows)), samples)


def test_a_long_recording_is_the_mean_of_its_windows(clap, tmp_path):
    tiny.sound(tmp_path / "long.wav", rate=RATE, seconds=2.5)
    samples = open_sound(tmp_path / "long.wav", RATE)
    parts = [samples[start : start + RATE] for start in (0, 6_000, 12_000)]
    wanted = F.normalize(clap.encode_image(parts).mean(0), dim=0)
    short = samples[:500]
    found = clap.encode_image([tmp_path / "long.wav", short, parts[0]], batch_size=3)
    assert torch.allclose(found[0], wanted, atol=1e-5)
    assert torch.allclose(found[1:], clap.encode_image([short, parts[0]]), atol=1e-5)
    assert torch.allclose(found, clap.encode_image([tmp_path / "long.wav", short, parts[0]], batch_size=1), atol=1e-5)


def test_silence_has_a_vector_and_is_told_once(clap, tmp_path, caplog):
    for name in ("a", "b"):
        wavfile.write(tmp_path / f"{name}.wav", RATE, np.zeros(RATE, np.int16))
    with caplog.at_level(logging.WARNING):
        rows = clap.encode_image([tmp_path / "a.wav", tmp_path / "b.wav"])
    assert torch.isfinite(rows).all()
    assert [record.message.count("is silent") for record in caplog.records] == [1]
    assert not is_silent(open_sound(tiny.sound(tmp_path / "c.wav"), RATE))


def test_from_recordings_to_captions(zoo, tmp_path, cli):
    """Rows with `audio`, embedded, trained on, captioned, evaluated, measured."""
    (tmp_path / "sounds").mkdir()
    sounds = [tiny.sound(tmp_path / "sounds" / f"{i}.wav", seed=i) for i in range(6)]
    texts = tiny.sentences(24)
    rows = [
        {"id": f"r{i}", "source": text, "group": f"g{i // 4}", "audio": f"sounds/{i // 4}.wav"}
        for i, text in enumerate(texts)
    ]
    tiny.write_jsonl(tmp_path / "train.jsonl", rows)
    one_each = [row | {"references": texts[4 * i : 4 * i + 4]} for i, row in enumerate(rows[::4])]
    test = tiny.write_jsonl(tmp_path / "test.jsonl", one_each)
    assert [row.image for row in open_rows(test)] == sounds
    (tmp_path / "recipe.yaml").write_text(
        f"data: {{train: train.jsonl}}\nencoder: {zoo('hf_clap_dir')}\nlanguage_model: {zoo('t5_dir')}\n"
        "training: {epochs: 1, batch_size: 8, save_strategy: 'no'}\n"
    )
    run = tmp_path / "run"

    def done(*arguments):
        ran = cli(*arguments)
        assert ran.code == 0, ran
        return ran.out

    done("train", tmp_path / "recipe.yaml", "--out", run)
    assert len(done("caption", run, tmp_path / "sounds").splitlines()) == 6
    (tmp_path / "sounds" / "broken.wav").write_bytes(b"RIFF")
    ran = cli("caption", run, tmp_path / "sounds", "--json")
    assert ran.code == 1
    assert [bool(json.loads(line)["error"]) for line in ran.out.splitlines()].count(True) == 1
    assert "1 of 7 items" in ran.messages[-1]
    assert "broken.wav" in ran.messages[-1]
    scores = json.loads(done("evaluate", run, test, "--metric", "cider", "--json"))
    assert scores["scores"]["n"] == 6
    for side, source in (("text", test), ("images", test)):
        done("embed", side, source, "--encoder", zoo("hf_clap_dir"), "--out", tmp_path / side)
    measured = json.loads(
        done("gap", "--text", tmp_path / "text", "--image", tmp_path / "images", "--bootstrap", "0", "--json")
    )
    assert 0 <= measured["centroid_gap"] <= 2


def test_a_row_has_one_thing_that_is_seen_or_heard(tmp_path):
    both = tiny.write_jsonl(tmp_path / "both.jsonl", [{"source": "a", "image": "a.png", "audio": "a.wav"}])
    with pytest.raises(DataError, match=r"both\.jsonl:1: 'image' and 'audio'"):
        open_rows(both)
    null = tiny.write_jsonl(tmp_path / "null.jsonl", [{"source": "a", "image": None, "audio": ["a.wav", "b.wav"]}])
    assert open_rows(null)[0].images == (tmp_path / "a.wav", tmp_path / "b.wav")


def test_channels_that_cancel_each_other_are_no_silence(tmp_path):
    tone = (20_000 * np.sin(2 * np.pi * 300 * np.arange(RATE) / RATE)).astype(np.int16)
    wavfile.write(tmp_path / "anti.wav", RATE, np.stack([tone, -tone], axis=1))
    assert np.abs(np.fft.rfft(open_sound(tmp_path / "anti.wav", RATE))).argmax() == 300
    wavfile.write(tmp_path / "none.wav", RATE, np.zeros((RATE, 2), np.int16))
    assert is_silent(open_sound(tmp_path / "none.wav", RATE))
