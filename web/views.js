// The views beside the search: duplicates, a map of the vectors, work in progress, statistics.
import { say } from "./words.js";
import * as api from "./api.js";

const body = document.getElementById("view-body");
const title = document.getElementById("view-title");
const status = document.getElementById("view-status");
let turn = 0; // of the view that is shown: what arrives late for another one is dropped
let timer;

function element(name, attributes = {}, ...children) {
  const e = Object.assign(document.createElement(name), attributes);
  e.append(...children);
  return e;
}

const megabytes = (bytes) => `${(bytes / 1048576).toLocaleString(undefined, { maximumFractionDigits: 1 })} MB`;

// ---- duplicates ----

function copyCard(collection, copy, keeps, searchFrom) {
  const name = api.nameOf(copy);
  const button = element("button", { type: "button", className: "picture" }, element("img", { src: api.thumbnail(collection.name, copy.key), alt: "", loading: "lazy" }));
  button.setAttribute("aria-label", say.searchFrom(name));
  button.addEventListener("click", () => searchFrom({ key: copy.key, path: name, payload: copy.payload }));
  const facts = `${copy.payload.width}×${copy.payload.height} · ${Math.round(copy.payload.size / 1024)} KB`;
  return element("li", { className: keeps ? "keep" : "" }, button, element("p", { className: "path", textContent: name }),
    element("p", { className: "quiet facts", textContent: facts }),
    element("p", { className: "quiet facts", textContent: keeps ? say.keep : say.differ(copy.bits, copy.score.toFixed(2)) }));
}

async function duplicates(collection, { searchFrom, copy }) {
  if (!collection.pictures) return say.notPictures;
  const found = await api.duplicates(collection.name, 10);
  return () => {
    status.textContent = found.found > 0 ? say.groups(found.found, found.pictures) : say.noDuplicates;
    body.replaceChildren(...found.groups.map((group) => {
      const rest = element("button", { type: "button", textContent: say.copyRest });
      rest.addEventListener("click", () => copy(group.slice(1).map(api.nameOf).join("\n")));
      return element("section", { className: "group" }, element("ol", { className: "grid" }, ...group.map((c, i) => copyCard(collection, c, i === 0, searchFrom))), rest);
    }));
  };
}

// ---- map ----

function drawMap(canvas, points) {
  const pen = canvas.getContext("2d"), scale = devicePixelRatio || 1;
  const side = Math.min(body.clientWidth, 720);
  canvas.width = canvas.height = side * scale;
  canvas.style.width = canvas.style.height = `${side}px`;
  const xs = points.map((p) => p[1]), ys = points.map((p) => p[2]);
  const low = [Math.min(...xs), Math.min(...ys)], span = Math.max(Math.max(...xs) - low[0], Math.max(...ys) - low[1]) || 1;
  const inside = canvas.width * 0.94, edge = canvas.width * 0.03;
  const places = points.map((p) => [p[0], edge + (p[1] - low[0]) / span * inside, canvas.height - edge - (p[2] - low[1]) / span * inside]);
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent");
  pen.globalAlpha = 0.6;
  for (const [, x, y] of places) {
    pen.beginPath();
    pen.arc(x, y, 3 * scale, 0, 2 * Math.PI);
    pen.fill();
  }
  return (event) => { // the key of the point next to the pointer
    const x = event.offsetX * scale, y = event.offsetY * scale;
    let best, least = (15 * scale) ** 2;
    for (const [key, px, py] of places) {
      const d = (px - x) ** 2 + (py - y) ** 2;
      if (d < least) [best, least] = [key, d];
    }
    return best;
  };
}

async function vectors(collection, { searchFrom }) {
  const { points, variance } = await api.map(collection.name);
  return () => {
    status.textContent = say.mapOf(points.length, Math.round(variance * 100));
    const canvas = element("canvas", { id: "map" }), input = element("input", { type: "text", id: "key", inputMode: "numeric" });
    const go = async (key) => {
      const row = await api.row(collection.name, key).catch((error) => { status.textContent = error.message; });
      if (row) searchFrom({ key: row.key, path: api.nameOf(row), payload: row.payload });
    };
    const form = element("form", {}, element("label", {}, `${say.byKey} `, input), " ", element("button", { textContent: say.use }));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (input.value.trim()) go(/^\d+$/.test(input.value.trim()) ? input.value.trim() : `=${input.value.trim()}`);
    });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", status.textContent);
    body.replaceChildren(element("p", { className: "quiet", textContent: say.mapHelp }), form, canvas);
    if (points.length === 0) return;
    const at = drawMap(canvas, points);
    canvas.addEventListener("click", (event) => { if (at(event)) go(String(at(event))); });
    canvas.addEventListener("pointermove", (event) => { canvas.title = at(event) ? `№ ${at(event)}` : ""; });
  };
}

// ---- index ----

function jobLine(job, writes) {
  const bar = element("progress", { max: job.total || 1 });
  if (job.state !== "running") bar.value = bar.max;
  else if (job.total) bar.value = job.done;
  const rate = job.state === "running" && job.done > 0 ? ` · ${say.rate(Math.round(job.done / job.seconds))}` : "";
  const line = element("li", {}, `${job.collection}: ${say.kinds[job.kind] ?? job.kind} · ${job.error ?? (job.state === "running" ? job.stage : say.states[job.state] ?? job.state)} · ${job.seconds.toFixed(1)} s${rate} `, bar);
  if (job.state === "running" && writes) {
    const stop = element("button", { type: "button", textContent: say.cancelJob });
    stop.addEventListener("click", () => api.cancel(job.id).catch((error) => { status.textContent = error.message; }));
    line.append(" ", stop);
  }
  return line;
}

async function index(collection, actions) {
  const [{ jobs }, { bad }] = await Promise.all([api.jobs(), api.bad(collection.name)]);
  return () => {
    const buttons = (actions.writes ? [["index", say.build], ["recall", say.measure]] : []).map(([kind, words]) => {
      const button = element("button", { type: "button", textContent: words });
      button.addEventListener("click", () => api.begin(collection.name, kind).then(() => show("index", collection, actions), (error) => { status.textContent = error.message; }));
      return button;
    });
    status.textContent = bad.length > 0 ? say.badFiles(bad.length) : "";
    body.replaceChildren(element("p", { className: "actions" }, ...buttons), element("h3", { textContent: say.jobs }),
      jobs.length > 0 ? element("ul", { className: "plain" }, ...jobs.slice(0, 20).map((job) => jobLine(job, actions.writes))) : element("p", { className: "quiet", textContent: say.nothingAtWork }),
      element("ul", { className: "plain" }, ...bad.map((file) => element("li", {}, element("code", { textContent: file.path }), ` ${file.reason}`))));
    if (jobs.some((job) => job.state === "running")) timer = setTimeout(() => show("index", collection, actions), 500);
  };
}

// ---- statistics ----

// Bars under each other: [label, value, what is written behind it].
function bars(list) {
  const most = Math.max(...list.map(([, value]) => value), 1e-9);
  return element("table", { className: "bars" }, ...list.map(([label, value, words]) => {
    const bar = element("div");
    bar.style.width = `${100 * value / most}%`;
    return element("tr", {}, element("th", { scope: "row", textContent: label }), element("td", {}, bar), element("td", { className: "quiet", textContent: words }));
  }));
}

function latencies(metrics) {
  let before = 0;
  return [...metrics].filter(([name]) => name.startsWith("kith_request_seconds_bucket")).map(([name, value]) => {
    const n = value - before;
    before = value;
    return [`≤ ${name.match(/le="([^"]*)"/)[1].replace("+Inf", "∞")}`, n, n.toLocaleString()];
  });
}

async function stats(collection) {
  const [s, metrics] = await Promise.all([api.stats(collection.name), api.metrics()]);
  return () => {
    const facts = [[say.rows, s.rows.toLocaleString()], [say.vectors, `${s.vectors.toLocaleString()} × ${s.dim}`], [say.metric, s.metric], [say.onDisk, megabytes(s.database_bytes)],
      [say.indexOf, s.index.spec ? `${s.index.spec}, ${megabytes(s.index.bytes)}` : say.none2], [say.uncovered, s.index.uncovered.toLocaleString()],
      [say.next, s.next_index.why ? `${s.next_index.spec} (${s.next_index.why})` : say.none2], [say.tuned, s.tuned ? `${s.tuned.target_recall}` : say.none2],
      [say.memory, metrics.has("kith_resident_bytes") ? megabytes(metrics.get("kith_resident_bytes")) : "?"]];
    status.textContent = "";
    body.replaceChildren(element("table", { className: "facts" }, ...facts.map(([name, value]) => element("tr", {}, element("th", { scope: "row", textContent: name }), element("td", { textContent: value })))),
      element("h3", { textContent: say.latency }), bars(latencies(metrics)),
      element("h3", { textContent: say.recallHistory }),
      s.recall.length > 0 ? bars(s.recall.map((m) => [new Date(m.time * 1000).toLocaleString(), m.recall, `${m.recall.toFixed(4)} @${m.k} · ${m.spec || say.none2} · ${m.ms.toFixed(2)} ms`]))
        : element("p", { className: "quiet", textContent: say.none2 }));
  };
}

const views = { duplicates: [duplicates, "viewDuplicates"], vectors: [vectors, "viewVectors"], index: [index, "viewIndex"], stats: [stats, "viewStats"] };

// Show a view of a collection; "search" is not one of these.
export async function show(name, collection, actions) {
  const mine = ++turn;
  clearTimeout(timer);
  if (!views[name] || !collection) {
    body.replaceChildren();
    return;
  }
  const [make, words] = views[name];
  if (title.textContent !== say[words]) body.replaceChildren();
  title.textContent = say[words];
  try {
    const draw = await make(collection, actions);
    if (mine !== turn) return;
    if (typeof draw === "function") draw();
    else status.textContent = draw;
  } catch (error) {
    if (mine === turn) status.textContent = error.message;
  }
}
