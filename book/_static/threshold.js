/* The figure with the threshold that moves. Plain SVG, no library. Scores come from the page,
   written by notebooks/12_threshold; all rates and areas are computed here from them. */
(function () {
  "use strict";
  const NS = "http://www.w3.org/2000/svg";
  const W = 340, H = 250, LEFT = 46, RIGHT = 12, TOP = 14, BOTTOM = 40;
  const MAX_FALSE = 0.1;

  function make(tag, attributes, parent, text) {
    const svg = ["svg", "g", "line", "path", "circle", "rect", "text", "title", "desc"].includes(tag);
    const node = svg ? document.createElementNS(NS, tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) node.setAttribute(key, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.appendChild(node);
    return node;
  }

  /* Points of the ROC curve from the highest threshold to the lowest; ties move together. */
  function rocOf(section) {
    const values = [...new Set([...section.normal, ...section.anomaly])].sort((a, b) => b - a);
    const above = (list, t) => list.filter((s) => s > t).length / list.length;
    const points = values.map((t) => ({
      threshold: t, fpr: above(section.normal, t), tpr: above(section.anomaly, t),
    }));
    const lowest = values[values.length - 1];
    points.push({ threshold: lowest - 0.02 * Math.abs(values[0] - lowest || 1), fpr: 1, tpr: 1 });
    return points;
  }

  /* Area below the curve up to a false-alarm rate, and the curve cut there. */
  function areaUpTo(roc, limit) {
    let area = 0;
    const cut = [roc[0]];
    for (let i = 1; i < roc.length; i += 1) {
      const a = roc[i - 1], b = roc[i];
      let end = b;
      if (b.fpr > limit) {
        const share = (limit - a.fpr) / (b.fpr - a.fpr);
        end = { fpr: limit, tpr: a.tpr + share * (b.tpr - a.tpr) };
      }
      area += ((end.fpr - a.fpr) * (a.tpr + end.tpr)) / 2;
      cut.push(end);
      if (b.fpr > limit) break;
    }
    return { area, cut };
  }

  function partial(area) {
    const low = (MAX_FALSE * MAX_FALSE) / 2;
    return 0.5 * (1 + (area - low) / (MAX_FALSE - low));
  }

  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  const px = (x, low, high) => LEFT + ((x - low) / (high - low || 1)) * (W - LEFT - RIGHT);
  const py = (y) => TOP + (1 - y) * (H - TOP - BOTTOM);

  function frame(parent, label) {
    const svg = make("svg", {
      viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label, class: "threshold-svg",
    }, parent);
    make("line", { class: "axis", x1: LEFT, x2: W - RIGHT, y1: H - BOTTOM, y2: H - BOTTOM }, svg);
    return svg;
  }

  function ticks(svg, values, place, text) {
    values.forEach((value) => make("text", {
      x: place(value), y: H - BOTTOM + 16, "text-anchor": "middle",
    }, svg, text(value)));
  }

  function drawScores(svg, section, low, high) {
    const rows = [["normal", 0.68], ["anomaly", 0.2]];
    rows.forEach(([label, centre]) => {
      const seen = new Map();
      section[label].forEach((score) => {
        const x = px(Math.min(score, high), low, high);
        const bin = Math.round(x / 6);
        const count = seen.get(bin) || 0;
        seen.set(bin, count + 1);
        const offset = (count % 2 ? 1 : -1) * Math.ceil(count / 2) * 6.5;
        make("circle", {
          class: `dot-${label}`, cx: x.toFixed(1), cy: (py(centre) + offset).toFixed(1), r: 3,
        }, svg);
      });
      make("text", { x: LEFT - 40, y: py(centre) - 46, class: `label-${label}` }, svg, label);
    });
    const span = high - low;
    const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50].find((s) => span / s <= 6) || span;
    const first = Math.ceil(low / step) * step;
    const marks = [];
    for (let value = first; value <= high; value += step) marks.push(value);
    ticks(svg, marks, (v) => px(v, low, high), (v) => String(Number(v.toFixed(2))));
    make("text", { x: (LEFT + W - RIGHT) / 2, y: H - 4, "text-anchor": "middle" }, svg,
      section.axis || "score / median of the normal clips");
  }

  function drawRoc(svg, roc) {
    const x = (value) => px(value, 0, 1);
    const line = (points) => points.map((p, i) =>
      `${i ? "L" : "M"}${x(p.fpr).toFixed(1)} ${py(p.tpr).toFixed(1)}`).join("");
    const { cut } = areaUpTo(roc, MAX_FALSE);
    make("rect", {
      class: "region", x: x(0), width: x(MAX_FALSE) - x(0), y: py(1), height: py(0) - py(1),
    }, svg);
    const last = cut[cut.length - 1];
    make("path", {
      class: "partial", d: `${line(cut)}L${x(last.fpr).toFixed(1)} ${py(0)}L${x(0)} ${py(0)}Z`,
    }, svg);
    make("path", { class: "chance", d: `M${x(0)} ${py(0)}L${x(1)} ${py(1)}` }, svg);
    make("path", { class: "curve", d: line(roc) }, svg);
    make("line", { class: "axis", x1: LEFT, x2: LEFT, y1: TOP, y2: H - BOTTOM }, svg);
    ticks(svg, [0, 0.1, 0.5, 1], x, (v) => String(100 * v));
    [0, 0.5, 1].forEach((value) => make("text", {
      x: LEFT - 6, y: py(value) + 4, "text-anchor": "end",
    }, svg, String(100 * value)));
    make("text", { x: (LEFT + W - RIGHT) / 2, y: H - 4, "text-anchor": "middle" }, svg,
      "false alarms (% of normal clips)");
    make("text", {
      x: 12, y: (TOP + H - BOTTOM) / 2, "text-anchor": "middle",
      transform: `rotate(-90 12 ${(TOP + H - BOTTOM) / 2})`,
    }, svg, "hits (% of anomalies)");
    make("text", { x: x(0.13), y: py(0.03), class: "label-partial" }, svg, "pAUC region");
  }

  function start(root, number) {
    const data = JSON.parse(root.querySelector("script").textContent);
    const fallback = root.querySelector(".threshold-fallback");
    if (fallback) fallback.remove();
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "Move the threshold and watch the ROC curve");
    const id = `threshold-${number}`;
    const controls = make("div", { class: "threshold-controls" }, root);
    make("label", { for: `${id}-section` }, controls, "Machine and section");
    const select = make("select", { id: `${id}-section` }, controls);
    data.sections.forEach((section, i) => make("option", { value: i }, select, section.name));
    select.value = String(data.start);
    make("label", { for: `${id}-slider` }, controls, "Threshold (arrow keys move it clip by clip)");
    const slider = make("input", { id: `${id}-slider`, type: "range", min: 0, step: 1 }, controls);
    const pictures = make("div", { class: "threshold-pictures" }, root);
    const values = make("dl", { class: "threshold-values" }, root);
    const outputs = {};
    [["threshold", "Alarm above"], ["tpr", "Hits"], ["fpr", "False alarms"],
      ["auc", "AUC"], ["pauc", "pAUC"]].forEach(([key, name]) => {
      const cell = make("div", {}, values);
      make("dt", {}, cell, name);
      outputs[key] = make("dd", { "data-value": key }, cell);
    });
    let roc = [], move = () => {};

    function openSection() {
      const section = data.sections[Number(select.value)];
      roc = rocOf(section);
      const all = [...section.normal, ...section.anomaly].sort((a, b) => a - b);
      const low = Math.min(all[0], roc[roc.length - 1].threshold);
      const high = all[all.length - 1];
      pictures.replaceChildren();
      const scores = frame(pictures,
        `Anomaly scores of ${section.name}: ${section.normal.length} normal clips above, ` +
        `${section.anomaly.length} anomalous clips below, and the threshold as a line`);
      drawScores(scores, section, low, high);
      const bar = make("line", { class: "threshold", y1: TOP - 8, y2: H - BOTTOM }, scores);
      const curve = frame(pictures, `ROC curve of ${section.name}, the pAUC region shaded`);
      drawRoc(curve, roc);
      const point = make("circle", { class: "point", r: 6 }, curve);
      outputs.auc.textContent = percent(areaUpTo(roc, 1).area);
      outputs.pauc.textContent = percent(partial(areaUpTo(roc, MAX_FALSE).area));
      slider.max = String(roc.length - 1);
      slider.value = String(Math.round((2 * roc.length) / 3));
      move = () => {
        /* To the right the threshold rises, as on the axis of the scores. */
        const here = roc[roc.length - 1 - Number(slider.value)];
        const x = px(here.threshold, low, high);
        bar.setAttribute("x1", x);
        bar.setAttribute("x2", x);
        point.setAttribute("cx", px(here.fpr, 0, 1));
        point.setAttribute("cy", py(here.tpr));
        outputs.threshold.textContent = here.threshold.toFixed(2);
        outputs.tpr.textContent = percent(here.tpr);
        outputs.fpr.textContent = percent(here.fpr);
        slider.setAttribute("aria-valuetext",
          `alarm above ${here.threshold.toFixed(2)}: ${percent(here.tpr)} hits, ` +
          `${percent(here.fpr)} false alarms`);
        bar.parentNode.querySelectorAll("circle").forEach((dot) => dot.classList.toggle(
          "alarm", Number(dot.getAttribute("cx")) > x));
      };
      move();
    }

    function drag(event) {
      const svg = pictures.firstElementChild;
      if (!svg || !svg.contains(event.target) || (event.type === "pointermove" && !event.buttons)) {
        return;
      }
      const box = svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * W;
      let best = 0;
      roc.forEach((p, i) => {
        const at = (q) => Math.abs(px(q.threshold, roc[roc.length - 1].threshold, roc[0].threshold) - x);
        if (at(p) < at(roc[best])) best = i;
      });
      slider.value = String(roc.length - 1 - best);
      move();
    }

    select.addEventListener("change", openSection);
    slider.addEventListener("input", () => move());
    pictures.addEventListener("pointerdown", drag);
    pictures.addEventListener("pointermove", drag);
    openSection();
  }

  function all() {
    document.querySelectorAll(".threshold-explorer").forEach(start);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", all);
  else all();
})();
