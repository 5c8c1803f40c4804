"""What the box on the page *Your own machine* needs: a runtime, a detector, and two clips.

The runtime is onnxruntime compiled to WebAssembly, a package of npm in one pinned version, of which
two files are kept. The detector is the statistical reference, trained on the synthetic machines of
the study and exported for the section whose faulty clip stands out most; that clip, and the most
usual normal one, are the examples. Whatever is lacking is said in the box.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from asdlib.data import index_folder
from asdlib.errors import RunError
from asdlib.evaluation import read_score_folder
from asdlib.files import whole_folder
from asdlib.study import Study
from asdlib.study.held_out import held_out, thresholds

RUNTIME = "onnxruntime-web@1.30.0"
SHA512 = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""Digest of the package, in base64 as npm states it."""
QUANTILE = 0.9
FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")


def make_box(out: Path, profile: str, workspace: Path) -> None:
    """Write everything into the folder `out`.

    Raises
    ------
    AsdError
        If the profile has no synthetic recordings, npm is missing, or its package is another one.
    """
    study = Study(profile, workspace=workspace)
    if study.profile.kind != "synthetic":
        raise RunError(f"profile '{profile}' has real recordings, expected synthetic ones")
    from asdlib.study.export import export

    kept = runtime(workspace / RUNTIME)
    store = study.store()
    run = study.run("statistics")
    limits = thresholds(held_out(run, store.path), QUANTILE)
    scores = read_score_folder(run.path, run.record.year).merge(limits, on=["machine", "section"])
    clips = index_folder(study.recordings()).merge(scores, on=["machine", "section", "clip"])
    clips["ratio"] = clips["anomaly_score"] / clips["threshold"]
    ranked = clips.sort_values("ratio").to_dict("records")
    faulty = [clip for clip in ranked if clip["label"] == "anomaly"][-1]
    kind = (faulty["machine"], faulty["section"])
    own = [clip for clip in ranked if (clip["machine"], clip["section"]) == kind]
    usual = next(clip for clip in own if clip["label"] == "normal")
    with whole_folder(out) as folder:
        for name in FILES:
            shutil.copy2(kept / name, folder)
        export(run, folder / "model.onnx", quantile=QUANTILE, sections=["/".join(kind)])
        for clip in (usual, faulty):
            shutil.copy2(study.recordings() / clip["path"], folder / f"{clip['label']}.wav")


def runtime(folder: Path) -> Path:
    """Return the folder with `FILES`, fetched by npm where they are not there yet."""
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", RUNTIME, "--silent", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=600)
        except (OSError, subprocess.SubprocessError) as error:
            raise RunError(f"npm cannot fetch {RUNTIME} ({error}); install npm") from error
        (package,) = Path(scratch).glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
        if found != SHA512:
            raise RunError(f"{RUNTIME} has SHA-512 {found}, expected {SHA512}; leave it out")
        with whole_folder(folder) as kept, tarfile.open(package) as archive:
            for name in FILES:
                member = archive.extractfile(f"package/dist/{name}")
                assert member is not None
                (kept / name).write_bytes(member.read())
    return folder
