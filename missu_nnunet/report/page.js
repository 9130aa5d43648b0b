"use strict";

const read = (id) => JSON.parse(document.getElementById(id).textContent);
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// ---- Charts: Plotly's figures in the page's colours, which change with light, dark and print. ----

const figures = read("figures-data");

// A finger has no hover: there the toolbar would cover the chart for good, and a drag would zoom instead of scrolling.
const touch = matchMedia("(hover: none)").matches;

// Charts keep their size when the page is laid out for paper: they need the width of an A4 page's text before.
let printing = false;

function themed(layout) {
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--grid"), tickcolor: colour("--line") };
  const result = { ...layout, dragmode: touch ? false : "zoom", font: { family: getComputedStyle(document.body).fontFamily, size: printing ? 10 : 12.5, color: colour("--text") } };
  result.hoverlabel = { bgcolor: colour("--card"), bordercolor: colour("--minor"), font: { color: colour("--text") } };
  for (const name of ["xaxis", "yaxis"]) result[name] = { ...axis, ...layout[name] };
  return result;
}

function draw(element) {
  const { data, layout } = figures[element.id];
  const paper = element.closest(".wide") ? { width: 680 } : { width: 330, height: 290 };
  const size = printing ? paper : {};
  return Plotly.react(element, data, { ...themed(layout), ...size }, { responsive: true, displaylogo: false, displayModeBar: touch ? false : "hover" });
}

const drawCharts = () => document.querySelectorAll(".plot").forEach(draw);

// ---- Viewer: three planes on canvases, surfaces by Plotly. ----

const viewer = read("viewer-data");
const viewerElements = Object.fromEntries(
  ["case", "channel", "channel-label", "overlay", "opacity", "level", "width", "window", "window-controls", "window-reset", "status", "surface", "surface-figure", "turn"].map((name) => [name, document.getElementById(`viewer-${name}`)]),
);
const planes = [...document.querySelectorAll(".plane[data-axis]")].map((figure) => ({
  figure,
  axis: Number(figure.dataset.axis),
  canvas: figure.querySelector("canvas"),
  slider: figure.querySelector("input"),
  output: figure.querySelector("output"),
}));
const MISSED = 1, EXTRA = 2, CONFUSED = 3, IGNORED = 4;
let shown = null;

async function unpacked(text, Numbers) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Numbers(await new Response(stream).arrayBuffer());
}

function rgb(hex) {
  return [1, 3, 5].map((start) => parseInt(hex.slice(start, start + 2), 16));
}

const palette = (colours) => Object.fromEntries(Object.entries(colours).map(([value, hex]) => [value, rgb(hex)]));
const labelColours = palette(viewer.colours);
const differenceColours = palette(viewer.differences);

// Values of the overlay menu: "none", "labels:1" (the second segmentation), "difference:1".
function options(content) {
  const found = [["none", "image alone"]];
  content.segmentations.forEach(({ name }, index) => found.push([`labels:${index}`, name]));
  content.segmentations.slice(1).forEach(({ name }, index) => found.push([`difference:${index + 1}`, `${name}: difference`]));
  return found;
}

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => new Option(text, value)));
  if (entries.some(([value]) => value === chosen)) select.value = chosen;
}

async function showCase() {
  const content = viewer.cases[Number(viewerElements.case.value)];
  viewerElements.status.textContent = "Unpacking…";
  const [channels, segmentations] = await Promise.all([
    Promise.all(content.channels.map(({ data }) => unpacked(data, Uint8Array))),
    Promise.all(content.segmentations.map(({ data }) => unpacked(data, Uint16Array))),
  ]);
  if (content !== viewer.cases[Number(viewerElements.case.value)]) return; // another was chosen meanwhile
  const flat = content.shape[0] === 1;
  shown = { content, channels, segmentations, position: [0, 1, 2].map((axis) => fullest(segmentations[0], content.shape, axis)) };
  fill(viewerElements.channel, content.channels.map(({ name }, index) => [String(index), name]), viewerElements.channel.value);
  viewerElements["channel-label"].hidden = content.channels.length < 2;
  viewerElements["window-controls"].hidden = !content.channels.length;
  fill(viewerElements.overlay, options(content), viewerElements.overlay.value || "labels:1");
  planes[0].figure.parentElement.classList.toggle("flat", flat);
  viewerElements["surface-figure"].hidden = flat;
  for (const { figure, axis, slider } of planes) {
    figure.hidden = flat && axis > 0;
    slider.max = content.shape[axis] - 1;
    slider.parentElement.hidden = flat;
  }
  const remarks = [];
  if (!content.channels.length) remarks.push("The image was not found: segmentations are drawn on black.");
  if (content.cropped) remarks.push("Cropped to what was segmented.");
  if (content.step > 1) remarks.push(`One voxel in ${content.step} along each axis is shown.`);
  viewerElements.status.textContent = remarks.join(" ");
  drawPlanes();
  drawSurfaces();
}

const stride = (shape) => [shape[1] * shape[2], shape[2], 1];

// The slice with most labelled voxels, where looking begins; the middle one if there are none.
function fullest(labels, shape, axis) {
  const strides = stride(shape), counts = new Array(shape[axis]).fill(0);
  for (let index = 0; index < labels.length; index++) if (labels[index]) counts[Math.floor(index / strides[axis]) % shape[axis]]++;
  const most = Math.max(...counts);
  return most ? counts.indexOf(most) : Math.floor(shape[axis] / 2);
}

function difference(reference, prediction) {
  if (reference === viewer.ignore) return IGNORED;
  if (reference === prediction) return 0;
  if (!prediction) return MISSED;
  return reference ? CONFUSED : EXTRA;
}

function overlay() {
  const [kind, index] = viewerElements.overlay.value.split(":");
  if (kind === "none") return () => undefined;
  const labels = shown.segmentations[Number(index)], reference = shown.segmentations[0];
  if (kind === "labels") return (voxel) => labelColours[labels[voxel]];
  return (voxel) => differenceColours[difference(reference[voxel], labels[voxel])];
}

// The level and the width of the window as shares of the channel's range: what is black, what is white.
const WHOLE = { level: 0.5, width: 1 };
let grayWindow = { ...WHOLE };

function setWindow({ level, width }) {
  grayWindow = { level: Math.min(Math.max(level, 0), 1), width: Math.min(Math.max(width, 0.02), 2) };
  viewerElements.level.value = 100 * grayWindow.level;
  viewerElements.width.value = 100 * grayWindow.width;
  drawPlanes();
}

// 0 to 255 → what is drawn; also says the window in the image's own values.
function greys() {
  const { level, width } = grayWindow;
  const channel = shown.content.channels[Number(viewerElements.channel.value || 0)];
  if (channel) {
    const [low, high] = channel.window, digits = high - low < 10 ? 3 : 0;
    const [black, white] = [level - width / 2, level + width / 2].map((share) => (low + share * (high - low)).toFixed(digits));
    viewerElements.window.textContent = `${black} to ${white}`;
  }
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => 255 * ((value / 255 - level) / width + 0.5));
}

function drawPlane({ axis, canvas, slider, output }) {
  const { content, channels, position } = shown, { shape, spacing } = content;
  const [rowAxis, columnAxis] = [0, 1, 2].filter((other) => other !== axis);
  const rows = shape[rowAxis], columns = shape[columnAxis], strides = stride(shape);
  const grey = channels[Number(viewerElements.channel.value || 0)];
  const colourOf = overlay(), opacity = viewerElements.opacity.value / 100, drawn = greys();
  const picture = new ImageData(columns, rows);
  for (let row = 0; row < rows; row++) {
    const voxelRow = axis === 0 ? row : rows - 1 - row; // superior is up
    for (let column = 0; column < columns; column++) {
      const voxel = position[axis] * strides[axis] + voxelRow * strides[rowAxis] + column * strides[columnAxis];
      const value = grey ? drawn[grey[voxel]] : 0, tint = colourOf(voxel), pixel = 4 * (row * columns + column);
      for (let part = 0; part < 3; part++) picture.data[pixel + part] = tint ? (1 - opacity) * value + opacity * tint[part] : value;
      picture.data[pixel + 3] = 255;
    }
  }
  const small = new OffscreenCanvas(columns, rows);
  small.getContext("2d").putImageData(picture, 0, 0);
  const height = rows * spacing[rowAxis], width = columns * spacing[columnAxis];
  const screen = canvas.parentElement, scale = Math.min(screen.clientHeight / height, screen.clientWidth / width);
  const density = window.devicePixelRatio || 1;
  canvas.style.width = `${width * scale}px`;
  canvas.style.height = `${height * scale}px`;
  canvas.width = Math.max(1, Math.round(width * scale * density));
  canvas.height = Math.max(1, Math.round(height * scale * density));
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
  const y = axis === 0 ? position[rowAxis] : rows - 1 - position[rowAxis];
  if (shape[0] > 1) drawCross(context, ((position[columnAxis] + 0.5) / columns) * canvas.width, ((y + 0.5) / rows) * canvas.height, density);
  slider.value = position[axis];
  output.textContent = `${content.numbers[axis][position[axis]]} of ${content.sizes[axis]}`;
  if (content.marks[axis]) drawMarks(context, content.marks[axis], density);
}

function drawCross(context, x, y, density) {
  const { width, height } = context.canvas, gap = 8 * density;
  context.strokeStyle = "rgba(255, 255, 255, 0.55)";
  context.lineWidth = density;
  context.beginPath();
  for (const [x0, y0, x1, y1] of [[0, y, x - gap, y], [x + gap, y, width, y], [x, 0, x, y - gap], [x, y + gap, x, height]]) {
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  context.stroke();
}

// The directions at the sides, as in the still pictures.
function drawMarks(context, [left, right, top, bottom], density) {
  const { width, height } = context.canvas, size = 14 * density;
  context.font = `600 ${size}px sans-serif`;
  context.lineWidth = 3 * density;
  context.strokeStyle = "#000000";
  context.fillStyle = "#ffffff";
  for (const [letter, x, y, align, baseline] of [
    [left, size / 3, height / 2, "left", "middle"], [right, width - size / 3, height / 2, "right", "middle"],
    [top, width / 2, size / 3, "center", "top"], [bottom, width / 2, height - size / 3, "center", "bottom"],
  ]) {
    context.textAlign = align;
    context.textBaseline = baseline;
    context.strokeText(letter, x, y);
    context.fillText(letter, x, y);
  }
}

const drawPlanes = () => shown && planes.filter(({ figure }) => !figure.hidden).forEach(drawPlane);

function jump({ axis, canvas }, event) {
  if (!shown) return;
  const { shape } = shown.content, [rowAxis, columnAxis] = [0, 1, 2].filter((other) => other !== axis);
  const inside = (value, size) => Math.min(Math.max(Math.floor(value * size), 0), size - 1);
  const row = inside(event.offsetY / canvas.clientHeight, shape[rowAxis]);
  shown.position[rowAxis] = axis === 0 ? row : shape[rowAxis] - 1 - row;
  shown.position[columnAxis] = inside(event.offsetX / canvas.clientWidth, shape[columnAxis]);
  drawPlanes();
}

// As in radiology: the wheel turns the slices over, the right button (or Shift) and a drag set the window.
let turned = 0; // since the last slice, in pixels: a touchpad sends many small steps

function turnOver({ axis }, event) {
  if (!shown || event.ctrlKey) return; // Ctrl and the wheel zoom the page
  const next = shown.position[axis] + Math.sign(event.deltaY);
  if (next < 0 || next >= shown.content.shape[axis]) return; // at the last slice, the page scrolls on
  event.preventDefault();
  turned += event.deltaMode ? 40 * event.deltaY : event.deltaY;
  if (Math.abs(turned) < 40) return;
  turned = 0;
  shown.position[axis] = next;
  drawPlanes();
}

let dragged = null; // the window and the pointer's place where a drag began

function press(plane, event) {
  const setsWindow = event.button === 2 || (event.button === 0 && event.shiftKey);
  dragged = setsWindow ? { ...grayWindow, x: event.clientX, y: event.clientY } : null;
  if (setsWindow) plane.canvas.setPointerCapture(event.pointerId); // the drag may leave the picture
  else if (event.button === 0) jump(plane, event);
}

function drag(plane, event) {
  if (!event.buttons) return;
  if (dragged) {
    const { level, width, x, y } = dragged;
    setWindow({ level: level + (event.clientY - y) / 300, width: width + (event.clientX - x) / 300 });
  } else jump(plane, event);
}

function camera() {
  const angle = (Number(viewerElements.turn.value) * Math.PI) / 180;
  return { eye: { x: 1.6 * Math.cos(angle), y: 1.6 * Math.sin(angle), z: 0.7 }, up: { x: 0, y: 0, z: 1 } };
}

function drawSurfaces() {
  if (!shown || shown.content.shape[0] === 1) return;
  const { segmentations } = shown.content;
  const [kind, index] = viewerElements.overlay.value.split(":");
  const chosen = kind === "none" ? 0 : Number(index);
  const traces = segmentations[chosen].surfaces.map((mesh) => ({ ...mesh, opacity: 1 }));
  if (chosen) traces.push(...segmentations[0].surfaces.map((mesh) => ({ ...mesh, opacity: 0.18, color: "#ffffff", hoverinfo: "skip" })));
  const axis = { visible: false, showspikes: false };
  const layout = {
    paper_bgcolor: "#05070a", margin: { l: 0, r: 0, t: 0, b: 0 }, showlegend: false,
    scene: { xaxis: axis, yaxis: axis, zaxis: axis, aspectmode: "data", camera: camera(), bgcolor: "#05070a" },
  };
  viewerElements.surface.setAttribute("aria-label", `Surfaces of ${segmentations[chosen].name}: ${traces.map(({ name }) => name).join(", ")}`);
  Plotly.react(viewerElements.surface, traces, layout, { responsive: true, displayModeBar: false, scrollZoom: false });
}

function startViewer() {
  if (!viewer.cases.length) return;
  if (!("DecompressionStream" in window && "OffscreenCanvas" in window)) {
    viewerElements.status.textContent = "This browser is too old for the viewer.";
    return;
  }
  viewerElements.case.addEventListener("change", showCase);
  viewerElements.channel.addEventListener("change", drawPlanes);
  viewerElements.opacity.addEventListener("input", drawPlanes);
  const slidersWindow = () => setWindow({ level: viewerElements.level.value / 100, width: viewerElements.width.value / 100 });
  viewerElements.level.addEventListener("input", slidersWindow);
  viewerElements.width.addEventListener("input", slidersWindow);
  viewerElements["window-reset"].addEventListener("click", () => setWindow(WHOLE));
  viewerElements.overlay.addEventListener("change", () => { drawPlanes(); drawSurfaces(); });
  viewerElements.turn.addEventListener("input", () => Plotly.relayout(viewerElements.surface, { "scene.camera": camera() }));
  for (const plane of planes) {
    plane.slider.addEventListener("input", () => { if (shown) { shown.position[plane.axis] = Number(plane.slider.value); drawPlanes(); } });
    plane.canvas.addEventListener("pointerdown", (event) => press(plane, event));
    plane.canvas.addEventListener("pointermove", (event) => drag(plane, event));
    plane.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    plane.canvas.addEventListener("wheel", (event) => turnOver(plane, event), { passive: false });
  }
  new ResizeObserver(drawPlanes).observe(document.getElementById("viewer-body"));
  showCase();
}

// ---- Tables wider than the screen fade out on the side where there is more. ----

function fade(element) {
  const hidden = element.scrollWidth - element.clientWidth;
  element.classList.toggle("more-left", element.scrollLeft > 4);
  element.classList.toggle("more-right", hidden - element.scrollLeft > 4);
}

const observer = new ResizeObserver((entries) => entries.forEach(({ target }) => fade(target.closest(".scroll"))));
for (const element of document.querySelectorAll(".scroll")) {
  element.addEventListener("scroll", () => fade(element), { passive: true });
  observer.observe(element);
  observer.observe(element.firstElementChild);
}

drawCharts();
startViewer();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);

function print(starts) {
  printing = starts;
  document.documentElement.classList.toggle("paper", starts); // light, whatever the screen is
  drawCharts();
}

addEventListener("beforeprint", () => print(true));
addEventListener("afterprint", () => print(false));
