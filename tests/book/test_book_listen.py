"""The box on *Your own machine*: a recording goes in, what the library says comes out."""

import base64
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import soundfile
from playwright.sync_api import Browser
from reader import PATIENCE, open_page
from scipy.signal import butter, sosfilt

import asdlib
from asdlib.features.build import own_store
from asdlib.study.explain import explain
from asdlib.study.export import export
from asdlib.study.score import load_model

pytestmark = pytest.mark.book


def test_a_dropped_recording_is_scored_as_by_the_library(
    browser: Browser, site: str, built: Path, tmp_path: Path
) -> None:
    folder = built / "html" / "_static" / "listen"
    if shutil.which("npm") is None and not folder.is_dir():
        pytest.skip("npm is missing: the book was built without the box's runtime")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    told = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    page, problems = open_page(browser, site, "book/own_machine")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    assert not [url for url in asked if "/listen/" in url], "the runtime waits for the reader"
    for label, verdict in (("normal", "usual"), ("anomaly", "unusual")):
        samples, rate = soundfile.read(folder / f"{label}.wav", dtype="float32")
        expected = float(session.run(["score"], {"waveform": samples[None]})[0][0, 0])
        page.locator(f"[data-clip={label}]").click()
        page.wait_for_function("() => document.querySelector('.listen-box [role=status]')"
                               ".textContent.startsWith('Done')", timeout=PATIENCE)  # fmt: skip
        assert page.locator("[data-value=verdict]").inner_text() == verdict
        score = float(page.locator("[data-value=score]").inner_text())
        assert score == pytest.approx(expected, rel=1e-3, abs=0.006)
        assert (score > told["thresholds"][0]) == (verdict == "unusual")
        assert page.locator("[data-value=section]").inner_text() == told["sections"][0]
        assert re.search(r"held-out normal clips .* \d\.\d–\d\.\d kHz", page.locator(
            "[data-value=reason]").inner_text())  # fmt: skip
        stereo = tmp_path / f"{label}.wav"
        soundfile.write(stereo, np.stack([samples, samples], axis=1), rate)
        page.locator(".listen-box input[type=file]").set_input_files(stereo)
        page.wait_for_function("() => document.querySelector('.listen-box [role=status]')"
                               ".textContent.startsWith('Done')", timeout=PATIENCE)  # fmt: skip
        assert page.locator("[data-value=verdict]").inner_text() == verdict
    phone = tmp_path / "phone.wav"
    soundfile.write(phone, np.random.default_rng(0).normal(0, 0.1, (7 * 48000, 2)), 48000)
    page.locator(".listen-box input[type=file]").set_input_files(phone)
    page.get_by_role("img", name="Spectrogram of 7.0 s").wait_for()
    drawn = page.locator(".listen-box canvas").evaluate(
        "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, c.height).data).size"
    )
    assert drawn > 50
    page.locator(".listen-box input[type=file]").set_input_files(
        {"name": "x.wav", "mimeType": "audio/wav", "buffer": b"no sound"}
    )
    page.get_by_text("That did not work").wait_for()
    assert problems == []
    page.close()


def test_one_s_own_detector_is_dropped_and_then_a_recording(
    browser: Browser, site: str, built: Path, tmp_path: Path
) -> None:
    if not (built / "html" / "_static" / "listen").is_dir():
        pytest.skip("npm is missing: the book was built without the box's runtime")
    rng = np.random.default_rng(0)
    (tmp_path / "mine").mkdir()
    for i in range(12):
        soundfile.write(tmp_path / f"mine/{i}.wav", rng.normal(scale=0.02, size=16000), 16000)
    store = own_store(tmp_path / "mine")
    run = asdlib.run("statistics", store, store, tmp_path / "run")
    export(run, tmp_path / "mine.onnx", train=store)
    hiss = sosfilt(
        butter(8, (3000, 4000), "bandpass", fs=16000, output="sos"), rng.normal(size=16000)
    )
    faulty = rng.normal(scale=0.02, size=16000) + 0.1 * hiss
    soundfile.write(tmp_path / "faulty.wav", faulty, 16000)
    model = load_model(tmp_path / "mine.onnx")
    heard = soundfile.read(tmp_path / "faulty.wav", dtype="float32")[0]
    (expected,) = model.score(heard[None], "mine/00")
    low, high = (f"{hz / 1000:.1f}" for hz in explain(model, heard, "mine/00").as_json()["band_hz"])
    page, problems = open_page(browser, site, "book/own_machine")
    for name, said in (("mine.onnx", "Detector loaded"), ("faulty.wav", "Done")):
        text = base64.b64encode((tmp_path / name).read_bytes()).decode()
        page.locator(".listen-box").evaluate(
            """(box, [name, text]) => {
              const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
              const dataTransfer = new DataTransfer();
              dataTransfer.items.add(new File([bytes], name));
              box.dispatchEvent(new DragEvent("drop", { dataTransfer, cancelable: true }));
            }""",
            [name, text],
        )
        page.locator(".listen-box [role=status]", has_text=said).wait_for(timeout=PATIENCE)
    value = {key: page.locator(f"[data-value={key}]").inner_text()
             for key in ("section", "score", "verdict", "reason")}  # fmt: skip
    assert (value["section"], value["verdict"]) == ("mine/00", "unusual")
    assert float(value["score"]) == pytest.approx(expected, rel=1e-3, abs=0.006)
    assert f"{low}–{high} kHz" in value["reason"]  # the band that asd score names
    assert problems == []
    page.close()


def test_opened_from_disk_the_box_says_what_to_do(browser: Browser, built: Path) -> None:
    page = browser.new_page()
    page.goto((built / "html" / "book" / "own_machine.html").as_uri())
    page.get_by_text("python3 -m http.server").wait_for()
    assert not page.locator(".listen-controls").is_visible()
    page.close()
