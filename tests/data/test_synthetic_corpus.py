"""Corpora on disk: layout, truth, reproducibility, and what happens when writing fails."""

import hashlib
import json
import wave
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
from filelock import FileLock
from pydantic import ValidationError

from asdlib.data import COLUMNS, index_folder
from asdlib.data.synthetic import (
    CAUSES,
    LAYOUT_MACHINES,
    SPECS,
    TRUTH_COLUMNS,
    SyntheticSpec,
    corpus,
    plan_corpus,
    render_clip,
    write_corpus,
)
from asdlib.data.synthetic.rooms import (
    CONDITIONS,
    FAR_LEAKAGE_DB,
    SELF_NOISE_DB,
    Conditions,
    record,
)
from asdlib.errors import ConfigError, DataError

TINY = SyntheticSpec(
    machines=("fan", "valve"),
    n_sections=2,
    n_train=3,
    n_test_normal=2,
    n_test_anomaly=2,
    target_share=0.2,
    seconds=1.0,
)
TINY_2022 = TINY.model_copy(update={"layout": "dcase2022"})
ONE = TINY.model_copy(update={"machines": ("fan",), "n_sections": 1})
ANOMALY = ("fan", "00", "test", "anomaly", 0)
Corpus = tuple[Path, pd.DataFrame]


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    out = tmp_path_factory.mktemp("synthetic") / "tiny"
    return out, write_corpus(TINY, out, jobs=1)


def test_the_2020_layout_is_official_and_the_truth_is_told(tiny: Corpus) -> None:
    out, table = tiny
    assert tuple(table.columns) == TRUTH_COLUMNS
    assert len(table) == 2 * 2 * (3 + 2 + 2)
    assert "fan/train/normal_id_00_00000002.wav" in set(table["path"])
    pd.testing.assert_frame_equal(index_folder(out), table[list(COLUMNS)])
    for path in table["path"]:
        info = sf.info(out / path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames == 16000
    normal, faulty = table[table["label"] == "normal"], table[table["label"] == "anomaly"]
    assert set(normal["cause"]) == set(normal["kind"]) == set(normal["band"]) == {""}
    assert set(faulty["kind"]) == {"energy", "pattern"}
    assert all(CAUSES[row.cause].kind == row.kind for row in faulty.itertuples())
    assert (normal["severity"] == 0).all()
    assert set(faulty["cause"]) <= set(CAUSES)
    assert set(faulty["band"]) == {"natural"}
    assert faulty["severity"].between(*TINY.severity).all()


def test_the_2022_layout_is_official(tmp_path: Path) -> None:
    out = tmp_path / "tiny"
    table = write_corpus(TINY_2022, out, jobs=1)
    pd.testing.assert_frame_equal(index_folder(out), table[list(COLUMNS)])
    first = table[(table["machine"] == "fan") & (table["section"] == "00")]
    counts = first.groupby(["domain", "split", "label"]).size()
    assert counts["source"].to_dict() == {
        ("train", "normal"): 2,
        ("test", "normal"): 1,
        ("test", "anomaly"): 1,
    }
    assert counts["target"].tolist() == [1, 1, 1]
    attributes = pd.read_csv(out / "fan" / "attributes_00.csv", dtype=str)
    assert attributes.columns.tolist() == ["file_name", "d1p", "d1v"]
    assert set(attributes["file_name"]) == set(first["path"])
    for row in attributes.itertuples():
        assert row.file_name.endswith(f"_{row.d1p}_{row.d1v}.wav")


@pytest.mark.parametrize("year", [2023, 2024, 2025, 2026])
def test_the_first_shot_layouts_are_official(year: int, tmp_path: Path) -> None:
    size = {"machines": ("ToyCar", "fan"), "n_train": 100, "n_sections": 3}
    spec = TINY.model_copy(update=size | {"layout": f"dcase{year}", "target_share": None})
    plans = plan_corpus(spec)
    train = [plan.clip for plan in plans if plan.clip.split == "train"]
    fan = [clip for clip in train if clip.machine == "fan"]
    assert [clip.domain for clip in fan].count("target") == 1 == len(fan) - 99
    assert {clip.section for clip in train} == {"00"}
    hidden = {clip.machine for clip in train if clip.attributes == "noAttribute"}
    assert hidden == ({"ToyCar"} if year >= 2024 else set())
    assert min(clip.index for clip in train) == (year == 2024)
    # One condition shifts: that of the noise for fans, and no value is in both domains.
    noises = {d: {c.attributes for c in fan if c.domain == d} for d in ("source", "target")}
    assert noises["source"] == {"noise_1", "noise_2", "noise_3"}
    assert not noises["source"] & noises["target"]

    small = spec.model_copy(update={"n_train": 4})
    table = write_corpus(small, tmp_path / "wav", jobs=1)
    pd.testing.assert_frame_equal(index_folder(tmp_path / "wav", year=year), table[list(COLUMNS)])
    extra = table[table["split"] == "supplemental"].set_index("machine")["attributes"]
    assert extra.to_dict() == (
        {"ToyCar": "kind_machine", "fan": "kind_noise"} if year == 2025 else {}
    )
    for path in table["path"]:
        assert sf.info(tmp_path / "wav" / path).channels == 1 + (year == 2026)
    audio, _ = sf.read(tmp_path / "wav" / table["path"].iloc[0], dtype="float32")
    first = plan_corpus(small)[0].clip
    place = (first.machine, first.section, first.split, first.label, first.index)
    assert np.array_equal(audio, render_clip(small, *place, domain=first.domain))


def test_supplemental_clips_hold_the_machine_or_the_noise_alone() -> None:
    def scene(part: str) -> np.ndarray:
        sound = np.sin(np.arange(16000) * 0.1)
        conditions = Conditions("", 1.0, 0.5, 1, (1,))
        kept = {"snr_db": 0.0, "variation": 0.0, "rng": np.random.default_rng(5), "part": part}
        return record(sound, 0.5, "fan", "00", conditions, **kept)

    both, machine, noise = (scene(part) for part in ("both", "machine", "noise"))
    hiss = 10 ** (SELF_NOISE_DB / 20)
    assert np.std(both - machine - noise) == pytest.approx(hiss, rel=0.05)
    assert np.std(machine) == pytest.approx(np.std(noise), rel=0.5)


def test_the_far_microphone_hears_the_noise_and_a_known_leak() -> None:
    def scene(part: str) -> np.ndarray:
        sound = np.random.default_rng(1).normal(size=16000)
        conditions = Conditions("", 1.0, 0.5, 2, (1,))
        kept = {"snr_db": 0.0, "variation": 0.0, "rng": np.random.default_rng(5), "part": part}
        return record(sound, 1.0, "fan", "00", conditions, **kept, far=True)

    machine, noise = scene("machine"), scene("noise")
    far = 20 * np.log10(np.std(machine[:, 1]) / np.std(noise[:, 1]))
    assert far == pytest.approx(FAR_LEAKAGE_DB, abs=0.5)
    # 47 samples late, and nothing but the machine near by.
    lag = np.argmax(np.correlate(machine[:, 1], machine[:, 0], "full")) - len(machine) + 1
    assert abs(lag - 47) <= 2
    # The near noise is the far one along a path of its own.
    spectra = [np.fft.rfft(noise[:, k].reshape(-1, 2000) * np.hanning(2000)) for k in (0, 1)]
    cross = np.mean(spectra[0] * spectra[1].conj(), axis=0)
    coherence = np.abs(cross) ** 2 / np.prod(
        [np.mean(np.abs(x) ** 2, axis=0) for x in spectra], axis=0
    )
    assert np.median(coherence[10:500]) > 0.95


@pytest.mark.parametrize("shift", ["mild", "hard"])
def test_each_section_shifts_its_own_condition(shift: str) -> None:
    size = {"machines": ("ToyCar",), "n_sections": 4, "n_train": 40}
    spec = TINY_2022.model_copy(update=size | {"target_share": 0.4, "shift": shift})
    clips = [plan.clip for plan in plan_corpus(spec)]
    words = [clip.attributes.split("_") for clip in clips]
    rows = pd.DataFrame([dict(zip(w[::2], w[1::2], strict=True)) for w in words]).astype(int)
    keys = [[clip.section for clip in clips], [clip.domain for clip in clips]]
    for (section, domain), part in rows.groupby(keys):
        for place, (name, values) in enumerate(CONDITIONS.items()):
            shifted = domain == "target" and place == int(section)
            expected = values[shift if shifted else "source"]
            assert set(part[name]) <= set(expected)


@pytest.mark.parametrize("layout", LAYOUT_MACHINES)
def test_no_machine_is_clipped_or_silent(layout: str) -> None:
    spec = SyntheticSpec(layout=layout, machines=LAYOUT_MACHINES[layout], seconds=1.0, n_sections=4)
    for machine in spec.machine_names:
        for index, section in enumerate(spec.sections(machine)):
            for domain in spec.domains:
                audio = render_clip(
                    spec, machine, section, "test", "anomaly", index, domain=domain, severity=1.0
                )
                assert np.max(np.abs(audio)) < 0.95
                assert -55 < 20 * np.log10(np.std(audio)) < -12


def test_bytes_do_not_depend_on_the_number_of_threads_but_on_the_seed(tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    table = write_corpus(ONE, tmp_path / "a", jobs=1)
    again = write_corpus(ONE, tmp_path / "b", jobs=3, on_progress=lambda *step: steps.append(step))
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    pd.testing.assert_frame_equal(table, again)
    assert steps == [(done, 7) for done in range(8)]
    write_corpus(ONE.model_copy(update={"seed": 1}), tmp_path / "c", jobs=1)
    sounds = [digests(tmp_path / name)[path] for name in "ac" for path in table["path"]]
    assert len(set(sounds)) == 2 * len(table)


def test_the_spec_beside_the_corpus_makes_its_clips_again(tiny: Corpus) -> None:
    out, _ = tiny
    spec = SyntheticSpec.model_validate(json.loads((out / "synthetic.json").read_text())["spec"])
    assert [plan.clip for plan in plan_corpus(spec)] == [plan.clip for plan in plan_corpus(TINY)]
    audio, _ = sf.read(out / "valve/test/anomaly_id_02_00000001.wav", dtype="float32")
    assert np.array_equal(audio, render_clip(spec, "valve", "02", "test", "anomaly", 1))


def test_only_the_fault_differs_between_bands() -> None:
    healthy = render_clip(TINY, *ANOMALY, severity=0.0)
    assert np.array_equal(healthy, render_clip(TINY, *ANOMALY, severity=0.0, band="high"))
    calm, faulty = (render_clip(TINY, *ANOMALY, band="high", severity=s) for s in (0.0, 1.0))
    spectrum = np.abs(np.fft.rfft(faulty.astype(float) - calm)) ** 2
    assert spectrum[3700:7900].sum() > 0.98 * spectrum.sum()


def test_a_machine_is_recorded_at_the_asked_snr() -> None:
    conditions = Conditions("", 1.0, 0.5, 1, (1, 2, 3))
    sound = 0.1 * np.random.default_rng(0).standard_normal(4 * 16000)
    place = (float(np.mean(sound**2)), "fan", "00", conditions)
    whole, noise = (
        record(x, *place, snr_db=3.0, variation=0.0, rng=np.random.default_rng(1))
        for x in (sound, np.zeros_like(sound))
    )
    snr = 10 * np.log10(np.mean((whole - noise) ** 2) / np.mean(noise**2))
    # The microphone stands at 0.8 m, and its low cut takes more from the background.
    assert snr == pytest.approx(3.0 + 20 * np.log10(1 / 0.8), abs=2.5)


def test_a_finished_corpus_is_returned_and_no_other_is_overwritten(
    tiny: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = tiny
    before = digests(out)
    monkeypatch.setattr(corpus, "_write_clip", lambda *_: pytest.fail("rendered again"))
    pd.testing.assert_frame_equal(write_corpus(TINY, out), table)
    with pytest.raises(DataError, match=r'another .* \("seed": 0 instead of "seed": 7\); r'):
        write_corpus(TINY.model_copy(update={"seed": 7}), out)
    assert digests(out) == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_foreign_and_incomplete_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="is no synthetic corpus; remove it or choose another"):
        write_corpus(TINY, tmp_path)
    with pytest.raises(DataError, match="is no synthetic corpus"):
        write_corpus(TINY, tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]
    write_corpus(ONE, tmp_path / "c", jobs=1)
    truth = tmp_path / "c/synthetic.csv"
    text = truth.read_text()
    for changed in (
        "",
        text.split("\n")[0],
        text.replace("\n", ",x\n", 3),
        text.replace("0", "1", 1),
    ):
        truth.write_text(changed)
        with pytest.raises(DataError, match=r"'synthetic\.csv' was changed .*; remove") as caught:
            write_corpus(ONE, tmp_path / "c")
        assert str(caught.value).isprintable()
    truth.write_text(text)
    clip = tmp_path / "c/fan/test/normal_id_00_00000001.wav"
    for content in (b"", clip.read_bytes()[:-2]):
        clip.write_bytes(content)
        with pytest.raises(DataError, match=r"lacks 1 of its 7 clips.*00000001"):
            write_corpus(ONE, tmp_path / "c")
    clip.unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its 7 clips.*00000001"):
        write_corpus(ONE, tmp_path / "c")


@pytest.mark.parametrize(
    ("error", "expected", "message"),
    [
        (KeyboardInterrupt(), KeyboardInterrupt, None),
        (OSError(28, "No space left on device"), DataError, "disk of .* is full"),
        (OSError(13, "Permission denied"), DataError, "cannot be written"),
        (RuntimeError("boom"), RuntimeError, "boom"),
    ],
)
def test_nothing_is_left_of_an_interrupted_corpus(
    error: BaseException,
    expected: type[BaseException],
    message: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = wave.open
    calls: list[object] = []

    def fail_at_the_third(path: str, mode: str) -> object:
        calls.append(path)
        if len(calls) == 3:
            raise error
        return write(path, mode)

    monkeypatch.setattr(wave, "open", fail_at_the_third)
    with pytest.raises(expected, match=message):
        write_corpus(ONE, tmp_path / "c", jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_process_are_removed_and_a_running_one_is_respected(
    tmp_path: Path,
) -> None:
    (tmp_path / ".c.99999.partial" / "fan").mkdir(parents=True)
    (tmp_path / ".c.99999.partial" / "fan" / "half.wav").write_bytes(b"RIFF")
    with (
        FileLock(tmp_path / ".c.lock"),
        pytest.raises(DataError, match="another process is writing"),
    ):
        write_corpus(ONE, tmp_path / "c")
    write_corpus(ONE, tmp_path / "c", jobs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert not list((tmp_path / "c").rglob("half.wav"))


BAD_SPECS = [
    ({"machines": ("bearing",)}, r"machine 'bearing' is not in layout dcase2020 \(known: Toy"),
    ({"machines": ()}, "machines\n.* at least 1 item"),
    ({"causes": ("rust",)}, r"unknown cause 'rust' \(known: imbalance"),
    ({"causes": ("leak",)}, r"machine 'fan' has none of the causes given \(its own: "),
    ({"severity": (0.9, 0.1)}, "not an ascending range"),
    ({"layout": "dcase2022", "n_test_normal": 3}, "cannot be halved"),
    ({"layout": "dcase1999"}, "Input should be 'dcase2020', 'dcase2022', .* or 'dcase2026'"),
    ({"volume": 11}, "Extra inputs are not permitted"),
]


def test_bad_specs_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    for change, message in BAD_SPECS:
        with pytest.raises(ValidationError, match=message):
            SyntheticSpec.model_validate(TINY.model_dump() | change)
        if "volume" not in change:
            with pytest.raises(ValidationError, match=message):
                write_corpus(TINY.model_copy(update=change), tmp_path / "c")
        assert list(tmp_path.iterdir()) == []


UNKNOWN = [
    (("pump", "00", "test", "normal"), {}, r"machine 'pump' is not in .*\(known: fan, valve\)"),
    (("fan", "04", "test", "normal"), {}, r"section '04' is not in .*\(known: 00, 02\)"),
    (("fan", "00", "train", "anomaly"), {}, r"label 'anomaly' is not in .*\(known: normal\)"),
    (ANOMALY[:4], {"cause": "rust"}, r"unknown cause 'rust' \(known: imba"),
    (ANOMALY[:4], {"band": "ultra"}, r"unknown band 'ultra' \(known: natural, low"),
    (ANOMALY[:4], {"severity": 2.0}, "severity 2 is not within"),
]


def test_unknown_clips_and_faults_are_refused() -> None:
    for place, fault, message in UNKNOWN:
        with pytest.raises(ConfigError, match=message):
            render_clip(TINY, *place, 0, **fault)


def test_every_field_of_a_spec_is_described_and_profiles_hold_both_layouts() -> None:
    assert all(field.description for field in SyntheticSpec.model_fields.values())
    for spec in SPECS.values():
        for shift, targets in (("mild", 0.2), ("hard", 0.04)):
            changes = {"layout": "dcase2022", "shift": shift}
            other = SyntheticSpec.model_validate(spec.model_dump() | changes)
            clips = [plan.clip for plan in plan_corpus(other)]
            train = [clip.domain for clip in clips if clip.split == "train"]
            wanted = max(1, round(targets * spec.n_train)) / spec.n_train
            assert train.count("target") / len(train) == pytest.approx(wanted)
    assert len(SPECS["classroom"].machine_names) == 6
