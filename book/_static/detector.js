/* The box that listens: a WAV file or the microphone goes through an exported detector, here in the
   browser. onnxruntime (WebAssembly, 14 MB) is loaded when the box is first used. Everything that
   the box knows of a detector is in its file. */
(function () {
  "use strict";
  const FOLDER = new URL("listen/", document.currentScript.src).href;
  const LONGEST = 60, RECORDED = 5;

  /* Metadata of an ONNX file: field 14 of its protocol buffer, pairs of key (1) and value (2). */
  function metadata(bytes) {
    const told = {}, text = new TextDecoder();
    function fields(from, to, found) {
      let at = from;
      const varint = () => {
        let value = 0, scale = 1, byte;
        do { byte = bytes[at++]; value += (byte & 127) * scale; scale *= 128; } while (byte > 127);
        return value;
      };
      while (at < to) {
        const tag = varint(), kind = tag % 8;
        if (kind === 0) varint();
        else if (kind === 1) at += 8;
        else if (kind === 5) at += 4;
        else if (kind === 2) { const size = varint(); found(tag >> 3, at, at + size); at += size; }
        else throw new Error("this is no ONNX file");
      }
    }
    fields(0, bytes.length, (field, from, to) => {
      if (field !== 14) return;
      const pair = {};
      fields(from, to, (part, a, b) => { pair[part] = text.decode(bytes.subarray(a, b)); });
      told[pair[1]] = JSON.parse(pair[2]);
    });
    if (!told.sections) throw new Error("this file was not made by asd export");
    return told;
  }

  async function load(bytes) {
    const about = metadata(bytes);
    const ort = await import(`${FOLDER}ort.wasm.bundle.min.mjs`);
    ort.env.wasm.wasmPaths = { wasm: `${FOLDER}ort-wasm-simd-threaded.wasm` };
    ort.env.wasm.numThreads = 1;
    const session = await ort.InferenceSession.create(bytes, { executionProviders: ["wasm"] });
    return { about, session, Tensor: ort.Tensor };
  }

  async function fetched(name) {
    const answer = await fetch(FOLDER + name);
    if (!answer.ok) throw new Error("this copy of the book was built without a detector");
    return answer.arrayBuffer();
  }

  /* Samples at the rate of the detector, channels averaged. */
  async function decode(buffer, rate) {
    const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(buffer);
    const samples = new Float32Array(Math.min(sound.length, LONGEST * rate));
    for (let c = 0; c < sound.numberOfChannels; c += 1) {
      const channel = sound.getChannelData(c);
      for (let i = 0; i < samples.length; i += 1) samples[i] += channel[i] / sound.numberOfChannels;
    }
    return samples;
  }

  async function record() {
    const processing = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: processing });
    const recorder = new MediaRecorder(stream), parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const stopped = new Promise((resolve) => { recorder.onstop = resolve; });
    recorder.start();
    await new Promise((resolve) => setTimeout(resolve, 1000 * RECORDED));
    recorder.stop();
    await stopped;
    stream.getTracks().forEach((track) => track.stop());
    return new Blob(parts).arrayBuffer();
  }

  /* Of several sections the one that the clip fits best. */
  async function judge(detector, samples) {
    const { about, session, Tensor } = detector;
    const out = await session.run({ waveform: new Tensor("float32", samples, [1, samples.length]) });
    const scores = Array.from(out.score.data);
    let best = 0;
    scores.forEach((score, c) => {
      if (score - about.thresholds[c] < scores[best] - about.thresholds[best]) best = c;
    });
    const [, n_mels, n_frames] = out.log_mel.dims;
    return {
      section: about.sections[best], score: scores[best], threshold: about.thresholds[best],
      anomalous: Boolean(out.anomalous.data[best]), seconds: samples.length / about.front_end.sample_rate,
      above: about.held_out[about.sections[best]].filter((other) => other > scores[best]).length,
      held_out: about.held_out[about.sections[best]].length,
      log_mel: out.log_mel.data, n_mels, n_frames, hertz: about.mel_frequencies,
      bands: out.parts && sums(out.parts.data.subarray(best * n_mels * n_frames), n_mels, n_frames),
    };
  }

  /* Parts of a square of a score, (F, T): their sum over time. */
  function sums(parts, n_mels, n_frames) {
    return Array.from({ length: n_mels }, (_, f) => (
      parts.subarray(f * n_frames, (f + 1) * n_frames).reduce((sum, part) => sum + part, 0)
    ));
  }

  /* As asd score finds it: around the peak, averaged over five mel bins, down to half of it. */
  function loudest(found) {
    const { bands, hertz } = found, last = bands.length - 1;
    const smooth = bands.map((_, f) => [-2, -1, 0, 1, 2].reduce((sum, k) => sum + (bands[f + k] || 0), 0));
    const half = Math.max(...smooth) / 2, peak = smooth.indexOf(2 * half);
    let low = peak, high = peak;
    while (low > 0 && smooth[low - 1] > half) low -= 1;
    while (high < last && smooth[high + 1] > half) high += 1;
    const edge = (f) => (hertz[Math.max(0, f - 1)] + hertz[Math.min(last, f)]) / 2000;
    return `${edge(low).toFixed(1)}–${edge(high + 1).toFixed(1)} kHz`;
  }

  const STOPS = [[0, 0, 4], [81, 18, 124], [183, 55, 121], [252, 137, 97], [252, 253, 191]]; // magma
  function colour(share) {
    const at = Math.max(0, Math.min(0.9999, share)) * (STOPS.length - 1), i = Math.floor(at);
    return STOPS[i].map((value, c) => value + (at - i) * (STOPS[i + 1][c] - value));
  }

  function draw(canvas, found) {
    const { log_mel, n_mels, n_frames, bands, hertz } = found, style = getComputedStyle(canvas);
    const width = 640, height = 300, left = 54, bottom = 36, top = 20, gap = 14;
    const right = bands ? 150 : 0, plot = width - left - right - 8, tall = height - top - bottom;
    canvas.width = 2 * width;
    canvas.height = 2 * height;
    const pen = canvas.getContext("2d");
    pen.scale(2, 2);
    const image = new ImageData(n_frames, n_mels);
    const sorted = Float32Array.from(log_mel).sort();
    const low = sorted[Math.floor(0.02 * sorted.length)], high = sorted[sorted.length - 1];
    for (let f = 0; f < n_mels; f += 1) {
      for (let t = 0; t < n_frames; t += 1) {
        const value = colour((log_mel[f * n_frames + t] - low) / (high - low || 1));
        image.data.set([...value, 255], 4 * ((n_mels - 1 - f) * n_frames + t));
      }
    }
    const small = document.createElement("canvas");
    [small.width, small.height] = [n_frames, n_mels];
    small.getContext("2d").putImageData(image, 0, 0);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, left, top, plot, tall);
    pen.fillStyle = style.color;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "right";
    const place = (f) => top + tall * (1 - (f + 0.5) / n_mels);
    [125, 500, 1000, 2000, 4000, 8000].forEach((tick) => {
      const f = hertz.findIndex((centre) => centre >= tick);
      if (f >= 0) pen.fillText(tick < 1000 ? `${tick} Hz` : `${tick / 1000} kHz`, left - 5, place(f) + 4);
    });
    pen.textAlign = "center";
    for (let k = 0; k <= 4; k += 1) {
      const label = `${((k / 4) * found.seconds).toFixed(1)}${k === 4 ? " s" : ""}`;
      pen.fillText(label, left + (plot - 24) * (k / 4) + 12, height - bottom + 16);
    }
    pen.fillText("time", left + plot / 2, height - 4);
    pen.fillText("log-mel spectrogram", left + plot / 2, 13);
    if (!bands) return;
    const start = left + plot + gap, most = Math.max(...bands, 1e-9), span = right - gap;
    pen.fillText("adds to score²", start + span / 2, 13);
    pen.fillStyle = style.getPropertyValue("--anomaly");
    bands.forEach((value, f) => {
      const long = (Math.max(0, value) / most) * span;
      pen.fillRect(start, place(f) - tall / n_mels / 2, long, tall / n_mels);
    });
  }

  function report(box, found) {
    const verdict = box.querySelector("[data-value=verdict]");
    verdict.textContent = found.anomalous ? "unusual" : "usual";
    verdict.classList.toggle("listen-unusual", found.anomalous);
    const tell = (name, text) => { box.querySelector(`[data-value=${name}]`).textContent = text; };
    tell("score", found.score.toFixed(2));
    tell("threshold", found.threshold.toFixed(2));
    tell("section", found.section);
    const share = `${found.above} of ${found.held_out} held-out normal clips score higher.`;
    const band = found.bands ? ` Most of the score comes from ${loudest(found)}.` : "";
    tell("reason", share + band);
    const canvas = box.querySelector("canvas");
    canvas.setAttribute("aria-label", `Spectrogram of ${found.seconds.toFixed(1)} s of sound.${band}`);
    draw(canvas, found);
    box.querySelector(".listen-result").hidden = false;
  }

  function start(box) {
    const status = box.querySelector("[role=status]");
    if (location.protocol === "file:") {
      status.textContent = "You opened this book from disk, where browsers run no WebAssembly. "
        + "Start a server in its folder, python3 -m http.server, and open http://localhost:8000.";
      return;
    }
    box.querySelector(".listen-controls").hidden = false;
    status.textContent = "Drop a WAV file here, or choose.";
    let detector = null;
    const busy = (now) => box.querySelectorAll("button, input").forEach((e) => { e.disabled = now; });

    async function run(words, get) {
      busy(true);
      try {
        if (!detector) {
          status.textContent = "Loading the detector …";
          detector = await load(new Uint8Array(await fetched("model.onnx")));
        }
        status.textContent = words;
        const buffer = await get();
        if (buffer) {
          const rate = detector.about.front_end.sample_rate;
          report(box, await judge(detector, await decode(buffer, rate)));
        }
        status.textContent = buffer ? "Done. Nothing left your computer." : "Detector loaded; drop a WAV file.";
      } catch (error) {
        status.textContent = `That did not work: ${error.message || error}`;
      }
      busy(false);
    }

    function take(file) {
      if (!file) return;
      if (!file.name.endsWith(".onnx")) run(`Listening to ${file.name} …`, () => file.arrayBuffer());
      else {
        run("Loading your detector …", async () => {
          detector = await load(new Uint8Array(await file.arrayBuffer()));
        });
      }
    }

    box.querySelector("input[type=file]").addEventListener("change", (event) => {
      take(event.target.files[0]);
      event.target.value = "";
    });
    box.querySelectorAll("[data-clip]").forEach((button) => button.addEventListener("click", () => {
      run("Listening …", () => fetched(`${button.dataset.clip}.wav`));
    }));
    box.querySelector("[data-record]").addEventListener("click", () => {
      run(`Recording ${RECORDED} seconds …`, record);
    });
    box.addEventListener("dragover", (event) => event.preventDefault());
    box.addEventListener("drop", (event) => {
      event.preventDefault();
      take(event.dataTransfer.files[0]);
    });
  }

  document.addEventListener("DOMContentLoaded", () => {
    document.querySelectorAll(".listen-box").forEach(start);
  });
})();
