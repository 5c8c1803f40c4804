/* The page on the whole block: mix, cut off and crop a spectrogram, look and listen. Plain canvas and
   Web Audio, no library. The arithmetic is that of asdlib.method and asdlib.plots.log_mel_to_audio. */
(function () {
  "use strict";

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

  function decode(data, name) {
    const [low, high] = data.range;
    return Float32Array.from(bytes(data[name]), (b) => low + ((high - low) * b) / 255);
  }

  /* ln((1 - share) e^x + share e^z) in the bins from `first` on; arrays are (F, T), row after row. */
  function mix(x, z, share, first, frames) {
    return x.map((value, i) => (
      i < first * frames ? value : Math.log((1 - share) * Math.exp(value) + share * Math.exp(z[i]))
    ));
  }

  /* One line of a bicubic interpolation, corners aligned, ends repeated (a = -0.75). */
  function resize(line, length) {
    const a = -0.75, out = new Float32Array(length);
    const near = (d) => ((a + 2) * d - (a + 3)) * d * d + 1;
    const far = (d) => ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
    for (let i = 0; i < length; i += 1) {
      const place = length > 1 ? (i * (line.length - 1)) / (length - 1) : 0;
      const left = Math.floor(place), t = place - left;
      const weights = [far(t + 1), near(t), near(1 - t), far(2 - t)];
      for (let k = 0; k < 4; k += 1) {
        const at = Math.min(Math.max(left - 1 + k, 0), line.length - 1);
        out[i] += weights[k] * line[at];
      }
    }
    return out;
  }

  /* Cut a box out of the input on its canvas of zeros, 1.5 times as long, and resize it. */
  function crop(x, bins, frames, box) {
    const margin = (Math.floor(1.5 * frames) - frames) / 2 | 0;
    const rows = [];
    for (let f = box.top; f < box.top + box.height; f += 1) {
      const line = new Float32Array(box.width);
      for (let t = 0; t < box.width; t += 1) {
        const from = box.left + t - margin;
        line[t] = from >= 0 && from < frames ? x[f * frames + from] : 0;
      }
      rows.push(resize(line, frames));
    }
    const out = new Float32Array(bins * frames);
    for (let t = 0; t < frames; t += 1) {
      const column = resize(Float32Array.from(rows, (row) => row[t]), bins);
      for (let f = 0; f < bins; f += 1) out[f * frames + t] = column[f];
    }
    return out;
  }

  /* Discrete Fourier transform in place; the length is a power of two. */
  function fft(re, im, sign) {
    const n = re.length;
    for (let i = 1, j = 0; i < n; i += 1) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) { [re[i], re[j]] = [re[j], re[i]]; [im[i], im[j]] = [im[j], im[i]]; }
    }
    for (let size = 2; size <= n; size *= 2) {
      const half = size / 2, step = (sign * 2 * Math.PI) / size;
      for (let k = 0; k < half; k += 1) {
        const c = Math.cos(k * step), s = Math.sin(k * step);
        for (let i = k; i < n; i += size) {
          const j = i + half, a = re[j] * c - im[j] * s, b = re[j] * s + im[j] * c;
          re[j] = re[i] - a; im[j] = im[i] - b; re[i] += a; im[i] += b;
        }
      }
    }
  }

  function framesToSound(spectra, data) {
    const n = data.n_fft, hop = data.hop, size = n + hop * (spectra.length - 1);
    const sum = new Float64Array(size), norm = new Float64Array(size);
    spectra.forEach(([re, im], t) => {
      const a = new Float64Array(n), b = new Float64Array(n);
      for (let k = 0; k <= n / 2; k += 1) {
        a[k] = re[k]; b[k] = k % (n / 2) ? im[k] : 0;
        if (k % (n / 2)) { a[n - k] = re[k]; b[n - k] = -im[k]; }
      }
      fft(a, b, 1);
      for (let i = 0; i < n; i += 1) {
        sum[t * hop + i] += (a[i] / n) * data.window[i];
        norm[t * hop + i] += data.window[i] ** 2;
      }
    });
    return sum.slice(n / 2, size - n / 2).map((v, i) => v / Math.max(norm[i + n / 2], 1e-11));
  }

  function soundToFrames(sound, data) {
    const n = data.n_fft, half = n / 2, last = sound.length - 1, spectra = [];
    const at = (i) => sound[i < 0 ? -i : i > last ? 2 * last - i : i];
    for (let start = -half; start + n <= sound.length + half; start += data.hop) {
      const re = new Float64Array(n), im = new Float64Array(n);
      for (let i = 0; i < n; i += 1) re[i] = at(start + i) * data.window[i];
      fft(re, im, -1);
      spectra.push([re.subarray(0, half + 1), im.subarray(0, half + 1)]);
    }
    return spectra;
  }

  /* Samples whose log-mel spectrogram is close to the given one: power spread over frequencies by
     multiplicative updates, phases after Griffin and Lim with momentum. */
  function toSound(view, data, updates, rounds) {
    const { bins, frames } = data, count = data.n_fft / 2 + 1, least = 1e-12;
    const mel = view.map((v) => {
      const level = v * data.std + data.mean;
      return data.unit === "dB" ? 10 ** (level / 10) : Math.exp(level);
    });
    const magnitude = [];
    for (let t = 0; t < frames; t += 1) {
      const down = (line) => {
        const out = new Float64Array(bins);
        data.filters.forEach((pairs, k) => pairs.forEach(([f, w]) => { out[f] += w * line[k]; }));
        return out;
      };
      const up = (column) => data.filters.map((pairs) => (
        pairs.reduce((total, [f, w]) => total + w * column[f], 0)));
      const spread = up(Float64Array.from({ length: bins }, (_, f) => mel[f * frames + t]));
      let line = spread.map((v) => Math.max(v, least));
      for (let i = 0; i < updates; i += 1) {
        const again = up(down(line));
        line = line.map((v, k) => (v * spread[k]) / Math.max(again[k], least));
      }
      magnitude.push(line.map((v) => v ** (1 / data.power)));
    }
    const momentum = 0.99 / 1.99;
    let angles = magnitude.map(() => [new Float64Array(count).fill(1), new Float64Array(count)]);
    let before = null;
    const spectra = () => angles.map(([re, im], t) => [
      re.map((v, k) => v * magnitude[t][k]), im.map((v, k) => v * magnitude[t][k])]);
    for (let i = 0; i < rounds; i += 1) {
      const rebuilt = soundToFrames(framesToSound(spectra(), data), data);
      angles = rebuilt.map(([re, im], t) => {
        const a = new Float64Array(count), b = new Float64Array(count);
        for (let k = 0; k < count; k += 1) {
          a[k] = re[k] - (before ? momentum * before[t][0][k] : 0);
          b[k] = im[k] - (before ? momentum * before[t][1][k] : 0);
          const size = Math.hypot(a[k], b[k]) + 1e-16;
          a[k] /= size; b[k] /= size;
        }
        return [a, b];
      });
      before = rebuilt;
    }
    return framesToSound(spectra(), data);
  }

  function draw(canvas, view, data) {
    canvas.width = data.frames; canvas.height = data.bins;
    const picture = canvas.getContext("2d").createImageData(data.frames, data.bins);
    const colours = bytes(data.colours), [low, high] = data.limits;
    for (let f = 0; f < data.bins; f += 1) {
      for (let t = 0; t < data.frames; t += 1) {
        const share = (view[f * data.frames + t] - low) / (high - low);
        const colour = 3 * Math.round(255 * Math.min(Math.max(share, 0), 1));
        const at = 4 * ((data.bins - 1 - f) * data.frames + t);
        picture.data.set([colours[colour], colours[colour + 1], colours[colour + 2], 255], at);
      }
    }
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  let context = null, playing = null;
  function play(sound, rate) {
    context = context || new AudioContext();
    if (playing) playing.stop();
    const peak = sound.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-12);
    const buffer = context.createBuffer(1, sound.length, rate);
    buffer.copyToChannel(Float32Array.from(sound, (v) => (0.7 * v) / peak), 0);
    playing = context.createBufferSource();
    playing.buffer = buffer;
    playing.connect(context.destination);
    context.resume();
    playing.start();
  }

  const CONTROLS = [
    ["share", "share λ of the background", 0, 1, 0.05, 0.4, (v) => v.toFixed(2)],
    ["cutoff", "mixed from this frequency on", 0, 7, 0.25, 0, (v) => (v ? `${v.toFixed(2)} kHz` : "all bins")],
    ["height", "height of the crop", 0.6, 1, 0.05, 1, (v) => `${Math.round(100 * v)} %`],
    ["top", "its place in frequency", 0, 1, 0.05, 0, (v) => (v ? `${Math.round(100 * v)} % up` : "bottom")],
    ["width", "width of the crop", 0.6, 1.5, 0.05, 1, (v) => `${Math.round(100 * v)} %`],
    ["left", "its place in time", 0, 1, 0.05, 0.5, (v) => `${Math.round(100 * v)} %`],
  ];

  function start(explorer) {
    const data = JSON.parse(explorer.querySelector("script").textContent);
    const [x, z] = [decode(data, "x"), decode(data, "z")];
    data.window = Float64Array.from({ length: data.n_fft }, (_, i) => (
      0.5 - 0.5 * Math.cos((2 * Math.PI * i) / data.n_fft)));
    explorer.querySelector(".augment-fallback").remove();
    const canvas = explorer.appendChild(document.createElement("canvas"));
    canvas.setAttribute("role", "img");
    const panel = explorer.appendChild(document.createElement("div"));
    panel.className = "augment-controls";
    const values = {};
    function view() {
      const first = data.mel_hz.findIndex((hz) => hz >= 1000 * values.cutoff);
      const mixed = mix(x, z, values.share, first < 0 ? data.bins : first, data.frames);
      const height = Math.min(Math.floor(values.height * data.bins), data.bins);
      const long = Math.floor(1.5 * data.frames);
      const width = Math.min(Math.floor(values.width * data.frames), long);
      const box = {
        height, width, top: Math.floor(values.top * (data.bins - height)),
        left: Math.floor(values.left * (long - width)),
      };
      return crop(mixed, data.bins, data.frames, box);
    }
    function update() {
      draw(canvas, view(), data);
      canvas.setAttribute("aria-label", "Spectrogram of the view: " + CONTROLS.map(
        ([name, label, , , , , say]) => `${label} ${say(values[name])}`).join(", "));
    }
    for (const [name, label, min, max, step, from, say] of CONTROLS) {
      const row = panel.appendChild(document.createElement("label"));
      const told = document.createElement("output");
      const slider = document.createElement("input");
      Object.assign(slider, { type: "range", min, max, step, value: from, name });
      const set = () => {
        values[name] = Number(slider.value);
        told.textContent = say(values[name]);
        slider.setAttribute("aria-valuetext", told.textContent);
      };
      slider.addEventListener("input", () => { set(); update(); });
      row.append(`${label}: `, told, slider);
      set();
    }
    for (const [text, what] of [["Play the view", view], ["Play the input", () => x]]) {
      const button = panel.appendChild(document.createElement("button"));
      Object.assign(button, { type: "button", textContent: text });
      button.addEventListener("click", () => play(toSound(what(), data, 30, 16), data.rate));
    }
    explorer.asd = { view, toSound: (v, updates, rounds) => toSound(v, data, updates, rounds) };
    update();
  }

  document.addEventListener("DOMContentLoaded", () => (
    document.querySelectorAll(".augment-explorer").forEach(start)));
})();
