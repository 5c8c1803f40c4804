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

from asdlib.data.clips import COLUMNS, index_folder
from asdlib.data.synthetic import (
    CAUSES,
    LAYOUT_MACHINES,
    MACHINES,
    SPECS,
    TRUTH_COLUMNS,
    SyntheticSpec,
    corpus,
    plan_corpus,
    render_clip,
    render_parts,
    write_corpus,
)
from asdlib.data.synthetic.rooms import CONDITIONS
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


def digests(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("synthetic") / "tiny"
    return out, write_corpus(TINY, out, jobs=1)


@pytest.fixture(scope="module")
def tiny_2022(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    out = tmp_path_factory.mktemp("synthetic") / "tiny"
    return out, write_corpus(TINY_2022, out, jobs=1)


def test_the_2020_layout_is_official(tiny: tuple[Path, pd.DataFrame]) -> None:
    out, table = tiny
    assert tuple(table.columns) == TRUTH_COLUMNS
    names = set(table["path"])
    assert "fan/train/normal_id_00_00000002.wav" in names
    assert "valve/test/anomaly_id_02_00000001.wav" in names
    assert len(table) == 2 * 2 * (3 + 2 + 2)
    pd.testing.assert_frame_equal(index_folder(out), table[list(COLUMNS)])


def test_the_2022_layout_is_official(tiny_2022: tuple[Path, pd.DataFrame]) -> None:
    out, table = tiny_2022
    pd.testing.assert_frame_equal(index_folder(out), table[list(COLUMNS)])
    first = table[(table["machine"] == "fan") & (table["section"] == "00")]
    counts = first.groupby(["domain", "split", "label"]).size().to_dict()
    assert counts == {
        ("source", "train", "normal"): 2,
        ("target", "train", "normal"): 1,
        ("source", "test", "normal"): 1,
        ("source", "test", "anomaly"): 1,
        ("target", "test", "normal"): 1,
        ("target", "test", "anomaly"): 1,
    }
    attributes = pd.read_csv(out / "fan" / "attributes_00.csv", dtype=str)
    assert attributes.columns.tolist() == ["file_name", "d1p", "d1v"]
    assert set(attributes["file_name"]) == set(first["path"])
    for _, row in attributes.iterrows():
        assert row["file_name"].endswith(f"_{row['d1p']}_{row['d1v']}.wav")


def test_each_section_shifts_its_own_condition() -> None:
    spec = TINY_2022.model_copy(
        update={"machines": ("ToyCar",), "n_sections": 4, "n_train": 40, "target_share": 0.4}
    )
    rows = pd.DataFrame(
        [
            {"section": p.clip.section, "domain": p.clip.domain}
            | dict(zip(*[iter(p.clip.attributes.split("_"))] * 2, strict=True))
            for p in plan_corpus(spec)
        ]
    )
    for number, section in enumerate(("00", "01", "02", "03")):
        for place, (name, values) in enumerate(CONDITIONS.items()):
            for domain in ("source", "target"):
                part = rows[(rows["section"] == section) & (rows["domain"] == domain)]
                expected = values[domain if place == number else "source"]
                assert set(part[name]) <= {str(value) for value in expected}


def test_files_are_16_khz_mono_pcm16_neither_clipped_nor_silent(
    tiny: tuple[Path, pd.DataFrame],
) -> None:
    out, table = tiny
    for path in table["path"]:
        info = sf.info(out / path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames == 16000


@pytest.mark.parametrize("layout", LAYOUT_MACHINES)
def test_no_machine_is_clipped_or_silent(layout: str) -> None:
    spec = SyntheticSpec(layout=layout, machines=LAYOUT_MACHINES[layout], seconds=1.5, n_sections=6)
    domains = ("source",) if layout == "dcase2020" else ("source", "target")
    for machine in spec.machine_names:
        for index, section in enumerate(spec.sections(machine)):
            for domain in domains:
                audio = render_clip(
                    spec, machine, section, "test", "anomaly", index, domain=domain, severity=1.0
                )
                assert np.max(np.abs(audio)) < 0.95
                assert -55 < 20 * np.log10(np.std(audio)) < -12


def test_truth_says_what_is_anomalous(tiny: tuple[Path, pd.DataFrame]) -> None:
    _, table = tiny
    normal, faulty = table[table["label"] == "normal"], table[table["label"] == "anomaly"]
    assert (normal["cause"] == "").all()
    assert (normal["band"] == "").all()
    assert (normal["severity"] == 0).all()
    assert set(faulty["cause"]) <= set(CAUSES)
    assert (faulty["band"] == "natural").all()
    assert faulty["severity"].between(*TINY.severity).all()


def test_bytes_do_not_depend_on_the_number_of_processes(
    tiny: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    out, table = tiny
    seen: list[tuple[int, int]] = []
    again = write_corpus(
        TINY, tmp_path / "tiny", jobs=2, on_progress=lambda *step: seen.append(step)
    )
    assert digests(out) == digests(tmp_path / "tiny")
    pd.testing.assert_frame_equal(table, again)
    assert seen[0] == (0, 28)
    assert seen[-1] == (28, 28)


def test_a_written_clip_equals_the_rendered_one(tiny: tuple[Path, pd.DataFrame]) -> None:
    out, _ = tiny
    audio, _ = sf.read(out / "valve/test/anomaly_id_02_00000001.wav", dtype="float32")
    assert np.array_equal(audio, render_clip(TINY, "valve", "02", "test", "anomaly", 1))


def test_no_two_clips_are_equal(tiny: tuple[Path, pd.DataFrame], tmp_path: Path) -> None:
    out, table = tiny
    write_corpus(TINY.model_copy(update={"seed": 1}), tmp_path / "b", jobs=1)
    sounds = [digests(root)[path] for root in (out, tmp_path / "b") for path in table["path"]]
    assert len(set(sounds)) == 2 * len(table)


def test_only_the_fault_differs_between_bands() -> None:
    def parts(**fault: object) -> np.ndarray:
        return render_parts(TINY, "fan", "00", "test", "anomaly", 0, **fault).audio  # type: ignore[arg-type]

    healthy = parts(severity=0.0)
    assert np.array_equal(healthy, parts(severity=0.0, band="high"))
    spectrum = np.abs(np.fft.rfft(parts(severity=1.0, band="high") - healthy)) ** 2
    assert spectrum[3700:7900].sum() > 0.98 * spectrum.sum()


def test_each_clip_has_its_own_background_and_machine() -> None:
    one, two = (render_parts(TINY, "fan", "00", "train", "normal", index) for index in (0, 1))
    for part in ("machine", "background"):
        assert abs(np.corrcoef(getattr(one, part), getattr(two, part))[0, 1]) < 0.5


def test_background_has_the_asked_snr() -> None:
    spec = SyntheticSpec(seconds=4.0, snr_db=3.0, variation=0.0)
    for machine in spec.machine_names:
        parts = render_parts(spec, machine, spec.sections(machine)[0], "train", "normal", 0)
        snr = 10 * np.log10(np.mean(parts.machine**2) / np.mean(parts.background**2))
        # The microphone stands at 0.8 m, and its low cut takes more from the background.
        assert snr == pytest.approx(3.0 + 20 * np.log10(1 / 0.8), abs=2.5)


def test_a_finished_corpus_is_returned_and_left_alone(
    tiny: tuple[Path, pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, table = tiny
    before = digests(out)
    monkeypatch.setattr(corpus, "write_clips", lambda *_: pytest.fail("rendered again"))
    pd.testing.assert_frame_equal(write_corpus(TINY, out), table)
    assert digests(out) == before
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def test_another_corpus_is_not_overwritten(tiny: tuple[Path, pd.DataFrame]) -> None:
    out, _ = tiny
    with pytest.raises(DataError, match=r"another synthetic corpus \(seed 0 instead of 7\); rem"):
        write_corpus(TINY.model_copy(update={"seed": 7}), out)


def test_foreign_content_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="no synthetic corpus; remove it or choose another"):
        write_corpus(TINY, tmp_path)
    with pytest.raises(DataError, match="is a file"):
        write_corpus(TINY, tmp_path / "thesis.txt")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_corpus_that_lost_clips_is_not_taken_for_whole(tmp_path: Path) -> None:
    spec = TINY.model_copy(update={"machines": ("fan",), "n_sections": 1})
    write_corpus(spec, tmp_path / "c", jobs=1)
    (tmp_path / "c/fan/test/normal_id_00_00000001.wav").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of its 7 clips.*00000001"):
        write_corpus(spec, tmp_path / "c")


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
        write_corpus(TINY, tmp_path / "c", jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_call_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".c.99999.partial" / "fan").mkdir(parents=True)
    (tmp_path / ".c.99999.partial" / "fan" / "half.wav").write_bytes(b"RIFF")
    spec = TINY.model_copy(update={"machines": ("valve",), "n_sections": 1})
    write_corpus(spec, tmp_path / "c", jobs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    assert not list((tmp_path / "c").rglob("half.wav"))


def test_two_processes_do_not_write_one_corpus(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / ".c.lock"),
        pytest.raises(DataError, match="another process is writing"),
    ):
        write_corpus(TINY, tmp_path / "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machines": ("fan", "drone")}, r"machine 'drone' is not in layout dcase2020 \(known: "),
        ({"machines": ()}, "machines is empty"),
        ({"machines": ("fan", "fan")}, "names one type twice"),
        ({"causes": ("rust",)}, r"unknown cause 'rust' \(known: imbalance"),
        ({"causes": ("leak",)}, r"machine 'fan' has none of the causes given \(its own: "),
        ({"severity": (0.9, 0.1)}, "not an ascending range"),
        ({"layout": "dcase2022", "n_test_normal": 3}, "cannot be halved"),
        ({"volume": 11}, "Extra inputs are not permitted"),
    ],
)
def test_bad_specs_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SyntheticSpec.model_validate(TINY.model_dump() | change)


def test_a_spec_that_was_changed_badly_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(ValidationError):
        write_corpus(TINY.model_copy(update={"layout": "dcase1999"}), tmp_path / "c")
    with pytest.raises(DataError, match="jobs 0 must be at least 1"):
        write_corpus(TINY, tmp_path / "c", jobs=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (("pump", "00", "test", "normal"), r"machine 'pump' is not in .*\(known: fan, valve\)"),
        (("fan", "04", "test", "normal"), r"section '04' is not in .*\(known: 00, 02\)"),
        (("fan", "00", "train", "anomaly"), r"label 'anomaly' is not in .*\(known: normal\)"),
    ],
)
def test_unknown_clips_are_refused(where: tuple[str, str, str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        render_clip(TINY, *where, 0)


def test_bad_faults_are_refused() -> None:
    for fault in ({"cause": "rust"}, {"band": "ultra"}, {"severity": 2.0}):
        with pytest.raises(ConfigError):
            render_clip(TINY, "fan", "00", "test", "anomaly", 0, **fault)


def test_every_field_of_a_spec_is_described_and_profiles_hold_both_layouts() -> None:
    assert all(field.description for field in SyntheticSpec.model_fields.values())
    for spec in SPECS.values():
        other = SyntheticSpec.model_validate(spec.model_dump() | {"layout": "dcase2022"})
        assert {"source", "target"} == {p.clip.domain for p in plan_corpus(other)}
    assert len(SPECS["classroom"].machine_names) == 6
    assert set(SPECS["classroom"].machine_names) <= set(MACHINES)


def test_the_spec_beside_the_corpus_makes_it_again(tiny: tuple[Path, pd.DataFrame]) -> None:
    out, _ = tiny
    content = json.loads((out / "synthetic.json").read_text())
    spec = SyntheticSpec.model_validate(content["spec"])
    assert [p.clip for p in plan_corpus(spec)] == [p.clip for p in plan_corpus(TINY)]
    assert np.array_equal(
        render_clip(spec, "fan", "02", "train", "normal", 1),
        render_clip(TINY, "fan", "02", "train", "normal", 1),
    )
