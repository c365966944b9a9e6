"use strict";
(() => {
  const D = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const C = D.classes.length, HELD = D.held, PAGE = 60, NAMED = 60;
  const state = { method: D.first, query: "", shown: PAGE, sort: 0, down: false };
  // Elements; texts are texts, never markup.
  function make(tag, props = {}, ...children) {
    const made = document.createElement(tag);
    for (const [key, value] of Object.entries(props)) {
      if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
      else if (key === "class") made.className = value;
      else if (value !== undefined && value !== null) made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }
  const bdi = (text) => make("bdi", {}, String(text));
  const div = (className, ...children) => make("div", { class: className }, ...children);
  const note = (...children) => make("p", { class: "note" }, ...children);
  const button = (onclick, ...children) => make("button", { type: "button", onclick }, ...children);
  const td = (child) => (child instanceof Element && child.tagName === "TD" ? child : make("td", {}, child));
  const tr = (head, ...cells) => make("tr", {}, make("th", { scope: "row" }, head), ...cells.map(td));
  const heads = (texts) => texts.map((text) => make("th", { scope: "col", dir: "auto" }, text));
  const table = (texts, rows) => make("table", {}, make("thead", {}, make("tr", {}, ...heads(texts))),
    make("tbody", {}, ...rows));
  const scrolling = (child) => make("div", { class: "scroll", tabindex: 0 }, child);
  // Words and numbers.
  const name = (c) => (c >= 0 && c < C ? D.classes[c] : "no class known");
  const percent = (thousandths) => (thousandths < 0 ? "–" : `${Math.round(thousandths / 10)} %`);
  const share = (part, whole) => (whole ? `${(100 * part / whole).toFixed(1)} %` : "–");
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)}`;
  const fold = (text) => String(text).normalize("NFKC").toLowerCase();
  const short = (text, most = 26) => (text.length > most ? `${text.slice(0, most - 9)}…${text.slice(-8)}` : text);
  // What a drawing library would take for markup in a label.
  const plain = (text) => String(text).replace(/[\r\n\t]/g, " ").replace(/&/g, "&amp;")
    .replace(/</g, "&lt;").replace(/>/g, "&gt;");
  // Images and what was said of them.
  const byLabel = Array.from({ length: C }, () => []);
  for (let i = 0; i < HELD; i++) if (D.labels[i] >= 0) byLabel[D.labels[i]].push(i);
  const runOf = (m) => D.runs[D.methods[m].runs[0]];
  const titleOf = (run) => `${D.methods[run.method].title}, seed ${run.seed}`;
  const answer = (run, i) => (run && i < HELD ? run.called[i] : -1);
  const isRight = (run, i) => answer(run, i) === D.labels[i];
  const splitOf = (i) => (i < HELD ? D.split : D.splits[i - HELD]);
  const source = (i) => (D.folder ? `${D.folder}${i}.webp` :
    D.thumbs[i] ? `data:image/webp;base64,${D.thumbs[i]}` : "");
  function picture(i, className = "") {
    const address = source(i), alt = `${name(D.labels[i])}, ${D.names[i]}`;
    if (!address) return make("span", { class: `empty ${className}` }, bdi(D.names[i]));
    return make("img", { src: address, alt, loading: "lazy", decoding: "async", class: className });
  }
  function said(i, run) {
    const c = answer(run, i);
    if (c < 0) return null;
    if (D.labels[i] < 0) return make("span", {}, bdi(name(c)), ` ${percent(run.p[i])}`);
    if (isRight(run, i)) return make("span", { class: "fine" }, `✓ rightly, ${percent(run.p[i])}`);
    return make("span", { class: "said" }, "✗ called ", bdi(name(c)), `, ${percent(run.p[i])}`);
  }
  function face(i, list, words) {
    const open = make("button", { type: "button", "data-image": i, onclick: () => detail(i, list) }, picture(i));
    const own = D.labels[i] >= 0 ? bdi(name(D.labels[i])) : null;
    const caption = words ? words(i) : [own, make("br"), said(i, runOf(state.method))];
    return make("figure", {}, open, make("figcaption", {}, ...caption.filter((child) => child !== null)));
  }
  const faces = (list, words) => list.map((i) => face(i, list, words));
  // Counts: of each method, by row and column.
  for (const method of D.methods) {
    Object.assign(method, { cells: new Map(), rows: new Array(C).fill(0), taken: new Array(C) });
    for (let k = 0; k < method.counts.length; k += 3) {
      const [i, j, n] = method.counts.slice(k, k + 3);
      method.cells.set(i * C + j, n);
      method.rows[i] += n;
      if (i !== j && (!method.taken[i] || n > method.taken[i][1])) method.taken[i] = [j, n];
    }
  }
  const count = (m, i, j) => D.methods[m].cells.get(i * C + j) || 0;
  const ofRow = (n, whole) => `${n} of ${whole} (${share(n, whole)})`;
  const of = (m, i, j) => ofRow(count(m, i, j), D.methods[m].rows[i]);
  const called = (m, i, j) =>
    byLabel[i].filter((image) => D.methods[m].runs.some((r) => D.runs[r].called[image] === j));
  const others = D.methods.map((_, m) => m).filter((m) => m !== D.first);
  const against = () => {
    if (state.method !== D.first) return state.method;
    return others.find((m) => D.methods[m].key === "cdml") ?? others[0] ?? -1;
  };
  // Dialogs.
  function openList(title, list) {
    const body = $("list-body");
    let from = 0;
    const add = () => {
      const next = list.slice(from, from + PAGE);
      body.append(...next.map((i) => face(i, list)));
      from += next.length;
      if (from >= list.length) return;
      const more = button(() => { more.remove(); add(); }, `More of ${list.length - from}`);
      body.append(more);
    };
    $("list-title").textContent = `${title} (${list.length})`;
    body.replaceChildren(...(list.length ? [] : [note("No image that the page holds.")]));
    add();
    if (!$("list").open) $("list").showModal();
  }
  function cell(m, i, j) {
    const words = i === j ? `${name(i)}, called rightly by` : `${name(i)} called ${name(j)} by`;
    openList(`${words} ${D.methods[m].title}`, called(m, i, j));
  }
  function answers(top, i) {
    const rows = top.classes[i].map((c, k) =>
      tr(make("span", {}, bdi(name(c)), c === D.labels[i] ? " ✓" : ""), percent(top.p[i][k])));
    const listed = D.labels[i] < 0 || top.classes[i].includes(D.labels[i]);
    return [make("h3", {}, bdi(titleOf(D.runs[top.run]))), make("table", {}, make("tbody", {}, ...rows)),
      ...(listed ? [] : [note(`Its own class: ${percent(top.own[i])}`)])];
  }
  function everyRun(i) {
    const rows = D.methods.map((method) => tr(bdi(method.title),
      ...method.runs.map((r) => make("td", { class: "text" }, said(i, D.runs[r])))));
    return [make("h3", {}, "Every method and seed"), scrolling(make("table", {}, make("tbody", {}, ...rows)))];
  }
  function nearest(i) {
    const list = D.near.index[i].filter((n) => n >= 0), similarity = new Map();
    D.near.index[i].forEach((n, k) => similarity.set(n, D.near.similarity[i][k]));
    const words = (n) => [bdi(D.labels[n] < 0 ? name(D.runs[0].called[n]) : name(D.labels[n])), make("br"),
      `similarity ${(similarity.get(n) / 100).toFixed(2)}`];
    return [make("h3", {}, "Nearest images ", make("small", {}, `(by the embeddings of ${D.near.title})`)),
      div("gallery small", ...faces(list, words))];
  }
  let stepping = [];
  function detail(i, list) {
    const at = list.indexOf(i);
    stepping = list;
    $("before").disabled = at <= 0;
    $("after").disabled = at < 0 || at >= list.length - 1;
    $("before").dataset.to = list[at - 1];
    $("after").dataset.to = list[at + 1];
    $("detail-title").textContent = D.labels[i] >= 0 ? name(D.labels[i]) : D.names[i];
    const left = div("", picture(i, "big"), note(bdi(D.names[i]), ` (${splitOf(i)})`));
    const right = div("", ...(i < HELD ? D.tops.flatMap((top) => answers(top, i)) : []));
    const body = [div("columns", left, right)];
    if (i < HELD && D.runs.length > 1) body.push(...everyRun(i));
    if (i < HELD && D.near) body.push(...nearest(i));
    $("detail-body").replaceChildren(...body);
    if (!$("detail").open) $("detail").showModal();
    $("detail").scrollTop = 0;
  }
  const step = (id) => { if (!$(id).disabled) detail(Number($(id).dataset.to), stepping); };
  // Search.
  const fits = (...texts) => !state.query || texts.some((text) => fold(text).includes(state.query));
  // Pairs.
  function mark(i, run, a, b) {
    const c = run.called[i];
    const [kind, sign, words] = c === D.labels[i] ? ["right", "✓", "right"] :
      c === a || c === b ? ["pair", "✗", "called the other class"] : ["wrong", "–", `called ${name(c)}`];
    return make("span", { class: `mark ${kind}`, title: `${titleOf(run)}: ${words}` }, sign);
  }
  const marks = (i, a, b, methods) => methods.map((m) => make("span", { class: "marks" },
    make("span", { class: "of" }, short(D.methods[m].title, 18)),
    ...D.methods[m].runs.map((r) => mark(i, D.runs[r], a, b))));
  function pairTable(a, b) {
    const whole = ({ rows }) => Math.max(1, rows[a] + rows[b]);
    const rate = (m) => 100 * (count(m, a, b) + count(m, b, a)) / whole(D.methods[m]);
    const rows = D.methods.map((method, m) => tr(bdi(method.title),
      button(() => cell(m, a, b), of(m, a, b)), button(() => cell(m, b, a), of(m, b, a)),
      m === D.first ? "" : signed(rate(m) - rate(D.first))));
    const [x, y] = [short(name(a)), short(name(b))];
    return scrolling(table(["method", `${x} called ${y}`, `${y} called ${x}`, "more or fewer errors, points"], rows));
  }
  function card({ true: a, called: b, number, images }) {
    const both = against() >= 0 ? [D.first, against()] : [D.first], first = D.methods[D.first];
    const times = (i) => first.runs.filter((r) => !isRight(D.runs[r], i)).length;
    const wrong = [...new Set(both.flatMap((m) => [...called(m, a, b), ...called(m, b, a)]))];
    wrong.sort((x, y) => times(y) - times(x) || x - y);
    const side = (c) => {
      const list = byLabel[c].filter((i) => isRight(runOf(D.first), i)).slice(0, 4);
      const words = (i) => [bdi(D.names[i].split("/").pop())];
      return div("", make("h4", {}, "Rightly called ", bdi(name(c))), div("faces small", ...faces(list, words)));
    };
    const words = (i) => [bdi(name(D.labels[i])), ...marks(i, a, b, both)];
    return make("article", { class: "card", "data-pair": `${a},${b}` },
      make("h3", {}, bdi(name(a)), " ↔ ", bdi(name(b))),
      D.pairsApart ? note(`Of validation images, which chose it, ${number} of ${images} are called so.`) : null,
      pairTable(a, b), div("sides", side(a), side(b)), make("h4", {}, `Images that went wrong (${wrong.length})`),
      div("faces", ...wrong.slice(0, 12).map((i) => face(i, wrong, words))),
      wrong.length > 12 ? button(() => openList(`${name(a)} and ${name(b)}`, wrong), `All ${wrong.length}`) : null);
  }
  function cards() {
    const kept = D.pairs.filter((pair) => fits(name(pair.true), name(pair.called)));
    $("cards").replaceChildren(...kept.map(card));
    $("no-cards").hidden = kept.length > 0;
  }
  // Classes.
  function classRows() {
    const method = D.methods[state.method], before = D.methods[D.first].figures.recall;
    const { support, precision, recall, f1 } = method.figures; // in per cent, −1 where there is none
    return byLabel.map((_, c) => ({ c, images: support[c], precision: precision[c], recall: recall[c], f1: f1[c],
      gain: recall[c] - before[c], taken: method.taken[c] }))
      .filter((row) => fits(name(row.c), D.family ? D.familyNames[D.family[row.c]] : ""));
  }
  const rate = (value) => (value < 0 ? "–" : value.toFixed(1));
  const columns = {
    class: [(row) => name(row.c)],
    images: [(row) => row.images, (row) => String(row.images)],
    "precision %": [(row) => row.precision, (row) => rate(row.precision)],
    "recall %": [(row) => row.recall, (row) => rate(row.recall)],
    "F1 %": [(row) => row.f1, (row) => rate(row.f1)],
    "recall, change": [(row) => row.gain, (row) => (row.images ? signed(row.gain) : "–")],
    "taken for": [(row) => (row.taken ? row.taken[1] : 0), (row) => make("td", { class: "text" }, row.taken ?
      button(() => cell(state.method, row.c, row.taken[0]), bdi(name(row.taken[0])),
        ` ${row.taken[1]} (${share(row.taken[1], row.images)})`) : "–")],
  };
  function sortBy(k) {
    state.down = state.sort === k ? !state.down : k > 0;
    state.sort = k;
    classes();
    $("class-table").tHead.rows[0].cells[k].firstChild.focus();
  }
  const opening = (c, list) => button(() => openList(name(c), list), bdi(name(c)));
  function classes() {
    const kept = Object.keys(columns).filter((key) => key !== "recall, change" || state.method !== D.first);
    state.sort = Math.min(state.sort, kept.length - 1);
    const value = columns[kept[state.sort]][0], rows = classRows(), way = state.down ? -1 : 1;
    rows.sort((x, y) => {
      const [a, b] = [value(x), value(y)];
      return way * (typeof a === "string" ? a.localeCompare(b) : a - b) || x.c - y.c;
    });
    const head = kept.map((text, k) => {
      const sorted = k !== state.sort ? "none" : state.down ? "descending" : "ascending";
      const sign = { none: "", descending: " ▾", ascending: " ▴" }[sorted];
      return make("th", { scope: "col", "aria-sort": sorted }, button(() => sortBy(k), text + sign));
    });
    $("class-table").tHead.rows[0].replaceChildren(...head);
    $("class-table").tBodies[0].replaceChildren(...rows.map((row) =>
      tr(opening(row.c, byLabel[row.c]), ...kept.slice(1).map((key) => columns[key][1](row)))));
  }
  function answered() {
    const lists = byLabel.map(() => []);
    D.runs[0].called.forEach((c, i) => lists[c].push(i));
    const rows = D.order.filter((c) => lists[c].length && fits(name(c)));
    rows.sort((a, b) => lists[b].length - lists[a].length);
    $("class-table").tHead.rows[0].replaceChildren(...heads(["class", "images called so", "share"]));
    $("class-table").tBodies[0].replaceChildren(...rows.map((c) =>
      tr(opening(c, lists[c]), String(lists[c].length), share(lists[c].length, HELD))));
  }
  // Images.
  const here = (i) => isRight(runOf(state.method), i), before = (i) => isRight(runOf(D.first), i);
  const kinds = D.labelled ? {
    wrong: ["wrong, surest first", (i) => !here(i)],
    fixed: ["right here, wrong by the first method", (i) => here(i) && !before(i)],
    broken: ["wrong here, right by the first method", (i) => !here(i) && before(i)],
    never: ["wrong by every run", (i) => D.runs.every((run) => !isRight(run, i))],
    all: ["all", () => true],
  } : { unsure: ["least sure first", () => true], sure: ["surest first", () => true] };
  function images() {
    const run = runOf(state.method), which = $("which").value, list = [];
    const found = (i) => fits(name(D.labels[i]), D.names[i], name(run.called[i]));
    if (run) for (let i = 0; i < HELD; i++) if (kinds[which][1](i) && found(i)) list.push(i);
    const way = which === "unsure" ? 1 : -1;
    if (which !== "all") list.sort((x, y) => way * (run.p[x] - run.p[y]) || x - y);
    $("gallery").replaceChildren(...list.slice(0, state.shown).map((i) => face(i, list)));
    const whole = D.total > HELD ? `${HELD} held of ${D.total}` : `${HELD}`;
    $("how-many").textContent = run ? `${list.length} of ${whole} images, ${titleOf(run)}` :
      "What was said of each image was not kept.";
    $("more").hidden = list.length <= state.shown;
  }
  // Suspects and copies.
  const suspected = () =>
    D.suspects.filter(([i, label, suggested]) => fits(name(label), name(suggested), D.names[i]));
  function suspects() {
    const kept = suspected().slice(0, PAGE), list = kept.map(([i]) => i);
    const shown = kept.map(([i, label, suggested, own, probability]) => face(i, list, () => [
      "labelled ", bdi(name(label)), `, ${percent(own)}`, make("br"),
      make("span", { class: "said" }, "models: ", bdi(name(suggested)), `, ${percent(probability)}`)]));
    $("suspect-list").replaceChildren(...(shown.length ? shown : [note("None.")]));
  }
  function copies() {
    const none = D.folder || D.thumbs.length ? "None was found among the images of this page." :
      "The images are not at hand, so none was sought.";
    const groups = D.copies.slice(0, PAGE).map((group) => div("card faces small", ...faces(group)));
    $("copies").replaceChildren(...(groups.length ? groups : [note(none)]));
  }
  function save() {
    const safe = (text) => (/^[=+\-@\t\r]/.test(text) ? `'${text}` : text); // no formula of a spreadsheet
    const quoted = (text) => `"${safe(String(text)).replace(/"/g, '""')}"`;
    const rows = suspected().map(([i, label, suggested, own, probability]) =>
      [...[splitOf(i), D.names[i], name(label), name(suggested)].map(quoted), own / 1000, probability / 1000]);
    const head = ["split", "image", "class", "suggested", "class_probability", "suggested_probability"];
    const text = [head, ...rows].map((row) => row.join(",")).join("\r\n");
    const href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    make("a", { href, download: "suspects.csv" }).click();
    URL.revokeObjectURL(href);
  }
  // Drawings, each once it is seen.
  const dark = () => document.documentElement.dataset.theme === "dark";
  const ink = (key) => getComputedStyle(document.documentElement).getPropertyValue(`--${key}`).trim();
  const swapped = {
    "#000000": ["#000000", "#e8eaee"], "#0064a0": ["#0064a0", "#4aa3ea"], "#a6a6a6": ["#7d7d7d", "#a6a6a6"],
  };
  const visible = (colour) => (swapped[colour] || [colour, colour])[dark() ? 1 : 0];
  const draws = { "matrix-plot": matrix, "map-plot": map };
  for (const id of ["calibration", "curve", "weights"]) draws[`${id}-plot`] = () => composed(id);
  const seen = new Set(), stale = new Set(Object.keys(draws));
  function drawn(id) {
    if (!$(id) || !seen.has(id) || !stale.has(id)) return;
    stale.delete(id);
    if (!window.Plotly) {
      // Four megabytes that nothing needs before the first drawing. Its digest is in the page's policy.
      const library = document.createElement("script");
      library.textContent = $("library").textContent;
      document.head.append(library);
    }
    draws[id]();
  }
  const redraw = (...ids) => { for (const id of ids) { stale.add(id); drawn(id); } };
  const config = { displaylogo: false, responsive: true, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
  const axis = (more) => ({
    gridcolor: ink("line"), zeroline: false, linecolor: ink("line"), automargin: true, ...more,
  });
  function layout(more) {
    const narrow = innerWidth < 640, below = { orientation: "h", y: -0.25, yanchor: "top" };
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink("ink"), size: 12 },
      margin: { t: 10, r: 10, l: 60, b: 50 }, hovermode: "closest", height: narrow ? 540 : undefined,
      legend: narrow ? below : { orientation: "h", y: 1.02, yanchor: "bottom" }, ...more,
    };
  }
  function hovering(plot, show, click) {
    const tip = $("tip");
    for (const each of ["plotly_hover", "plotly_unhover", "plotly_click"]) plot.removeAllListeners(each);
    plot.on("plotly_hover", ({ event, points }) => {
      const [i, words] = show(points[0]);
      tip.replaceChildren(...(i >= 0 && source(i) ? [picture(i)] : []), ...words);
      tip.hidden = false;
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - 240)}px`;
      tip.style.top = `${Math.max(4, Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8))}px`;
    });
    plot.on("plotly_unhover", () => { tip.hidden = true; });
    plot.on("plotly_click", ({ points }) => { tip.hidden = true; click(points[0]); });
  }
  // What was composed elsewhere: traces and a layout of each choice.
  function composed(id) {
    const chosen = $(id).tagName === "SELECT" ? Number($(id).value) : 0;
    const [, traces, own] = D.figures[id][chosen];
    const coloured = traces.map((trace) => (trace.line && trace.line.color ?
      { ...trace, line: { ...trace.line, color: visible(trace.line.color) } } : trace));
    const whole = layout({ ...own, xaxis: axis(own.xaxis), yaxis: axis(own.yaxis) });
    Plotly.react($(`${id}-plot`), coloured, whole, config);
  }
  // The matrix.
  const heat = () => (dark() ? [[0, "#2a2118"], [0.3, "#8a4b12"], [0.65, "#ef9b3d"], [1, "#fff3d6"]] :
    [[0, "#fff2dc"], [0.3, "#fdbb6b"], [0.65, "#d7301f"], [1, "#5c0011"]]);
  const change = () => [[0, "#2166ac"], [0.5, dark() ? "#14161a" : "#ffffff"], [1, "#e08214"]];
  const grey = () => (dark() ? [[0, "#22272e"], [1, "#5a6573"]] : [[0, "#f1f2f4"], [1, "#b9bfc8"]]);
  function matrixTraces(m, minus) {
    const method = D.methods[m], first = D.methods[D.first], place = new Array(C);
    D.order.forEach((c, k) => { place[c] = k; });
    const blank = () => Array.from({ length: C }, () => new Array(C).fill(null));
    const off = blank(), own = blank(), text = C <= 15 ? blank() : undefined;
    const keys = new Set([...method.cells.keys(), ...(minus ? first.cells.keys() : [])]);
    let most = 0;
    for (const key of keys) {
      const i = Math.floor(key / C), j = key % C, part = 100 * count(m, i, j) / (method.rows[i] || 1);
      const value = minus ? part - 100 * count(D.first, i, j) / (first.rows[i] || 1) : Math.sqrt(part);
      if (text) text[place[i]][place[j]] = minus ? value.toFixed(0) : String(count(m, i, j));
      if (i === j && !minus) own[place[i]][place[j]] = part;
      else {
        off[place[i]][place[j]] = value;
        most = Math.max(most, Math.abs(value));
      }
    }
    const ticks = [0.5, 1, 2, 5, 10, 20, 40, 70, 100].filter((tick) => Math.sqrt(tick) <= most * 1.02);
    const marked = minus ? {} : { tickvals: ticks.map(Math.sqrt), ticktext: ticks.map(String) };
    const colorbar = { title: { text: minus ? "points" : "% of the row" }, thickness: 12, ...marked };
    const gap = C <= 60 ? 1 : 0, texttemplate = text ? "%{text}" : undefined;
    const base = { type: "heatmap", hoverinfo: "none", text, texttemplate, xgap: gap, ygap: gap };
    const colours = { colorscale: minus ? change() : heat(), zmin: minus ? -most : 0, zmax: most || 1, colorbar };
    const right = { ...base, z: own, colorscale: grey(), zmin: 0, zmax: 100, showscale: false };
    return [{ ...base, z: off, ...colours }, ...(minus ? [] : [right])];
  }
  const families = () => D.frames.map(([low, high]) => (
    { type: "rect", x0: low, x1: high, y0: low, y1: high, line: { width: 1, color: ink("link") } }));
  function ticksOf(from, to) {
    if (to - from > NAMED) return { tickvals: [], ticktext: [] };
    const places = D.order.map((_, k) => k).slice(from, to);
    return { tickvals: places, ticktext: places.map((k) => plain(short(name(D.order[k])))) };
  }
  function renamed(plot, changed) {
    if (!Object.keys(changed).some((key) => /axis\.(range|autorange)/.test(key))) return;
    const update = {};
    for (const side of ["xaxis", "yaxis"]) {
      const [low, high] = plot.layout[side].range.map(Number).sort((a, b) => a - b);
      const ticks = ticksOf(Math.max(0, Math.ceil(low)), Math.min(C, Math.floor(high) + 1));
      for (const key of Object.keys(ticks)) update[`${side}.${key}`] = ticks[key];
    }
    Plotly.relayout(plot, update);
  }
  async function matrix() {
    const m = state.method, plot = $("matrix-plot"), ends = [-0.5, C - 0.5], ticks = ticksOf(0, C);
    const xaxis = axis({ ...ticks, tickangle: -90, title: { text: "called" }, showgrid: false, range: ends });
    const title = { text: "class of the image" }, range = [...ends].reverse();
    const yaxis = axis({ ...ticks, title, showgrid: false, range });
    const height = Math.max(380, Math.min(900, plot.clientWidth));
    const traces = matrixTraces(m, $("difference").checked && m !== D.first);
    await Plotly.react(plot, traces, layout({ shapes: families(), xaxis, yaxis, height }), config);
    const at = (point) => [D.order[Math.round(point.y)], D.order[Math.round(point.x)]];
    hovering(plot, (point) => {
      const [i, j] = at(point);
      const words = i === j ? [" called rightly: "] : [" called ", bdi(name(j)), ": "];
      return [called(m, i, j)[0] ?? -1, [bdi(name(i)), ...words, of(m, i, j)]];
    }, (point) => cell(m, ...at(point)));
    plot.removeAllListeners("plotly_relayout");
    plot.on("plotly_relayout", (changed) => renamed(plot, changed));
  }
  function cells() {
    const m = state.method, list = [...D.methods[m].cells].map(([key, n]) => [Math.floor(key / C), key % C, n]);
    const kept = list.filter(([i, j]) => i !== j && fits(name(i), name(j)));
    kept.sort((a, b) => b[2] - a[2] || a[0] - b[0]);
    $("cells").tBodies[0].replaceChildren(...kept.slice(0, 40).map(([i, j, n]) =>
      tr(bdi(name(i)), make("td", { class: "text" }, button(() => cell(m, i, j), bdi(name(j)))),
        String(n), String(D.methods[m].rows[i]), share(n, D.methods[m].rows[i]))));
  }

  async function map() {
    const found = D.maps[Number($("map-of").value)], plot = $("map-plot");
    if (!found) {
      plot.style.minHeight = 0;
      plot.replaceChildren(note("No embedding was kept for this page: results of older versions have none."));
      return;
    }
    const run = D.runs[found.run], groups = [[], []];
    for (let i = 0; i < HELD; i++) groups[isRight(run, i) || D.labels[i] < 0 ? 0 : 1].push(i);
    const looks = [[D.labelled ? "called rightly" : "images", "right", "circle"], ["called wrongly", "wrong", "x"]];
    const traces = groups.map((list, k) => ({
      type: "scatter", mode: "markers", name: looks[k][0], hoverinfo: "none", customdata: list,
      x: list.map((i) => found.x[i]), y: list.map((i) => found.y[i]), visible: list.length > 0,
      marker: { size: HELD > 2000 ? 5 : 7, color: ink(looks[k][1]), symbol: looks[k][2], opacity: 0.75 },
    }));
    const yaxis = axis({ visible: false, scaleanchor: "x" });
    await Plotly.react(plot, traces, layout({ xaxis: axis({ visible: false }), yaxis, height: 620 }), config);
    hovering(plot, ({ customdata: i }) => [i, [bdi(name(D.labels[i])), make("br"), said(i, run) ?? ""]],
      ({ customdata: i, curveNumber }) => detail(i, groups[curveNumber]));
  }
  // The beginning.
  const options = (select, list) =>
    select.replaceChildren(...list.map(([value, text]) => make("option", { value }, text)));
  const lists = () => (D.labelled ? [cards, cells, classes, images, suspects] : [answered, images])
    .forEach((list) => list());
  const on = (id, kind, act) => $(id).addEventListener(kind, act);
  function themed(theme) {
    document.documentElement.dataset.theme = theme;
    $("theme").setAttribute("aria-pressed", String(theme === "dark"));
    redraw(...Object.keys(draws));
  }
  themed(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  on("theme", "click", () => themed(dark() ? "light" : "dark"));
  for (const id of ["list", "detail"]) {
    $(id).querySelector(".close").addEventListener("click", () => $(id).close());
    on(id, "click", (event) => { if (event.target === $(id)) $(id).close(); });
  }
  for (const id of ["before", "after"]) on(id, "click", () => step(id));
  addEventListener("keydown", (event) => {
    const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement.tagName);
    if (event.key === "/" && !typing && $("search")) { event.preventDefault(); $("search").focus(); }
    if ($("detail").open && event.key === "ArrowLeft") step("before");
    if ($("detail").open && event.key === "ArrowRight") step("after");
  });
  for (const id of ["curve", "weights"].filter($)) {
    options($(id), D.figures[id].map(([label], k) => [k, label]));
    on(id, "change", () => redraw(`${id}-plot`));
  }
  if ($("search")) {
    const single = D.methods.length === 1, compared = ["fixed", "broken", "never"];
    const choices = Object.entries(kinds).filter(([key]) => !single || !compared.includes(key));
    const again = () => { state.shown = PAGE; lists(); };
    options($("method"), D.methods.map((method, m) => [m, method.title]));
    $("method").value = D.first;
    options($("which"), choices.map(([key, [text]]) => [key, text]));
    options($("map-of"), D.maps.length ? D.maps.map(({ title }, k) => [k, title]) : [[0, "nothing was kept"]]);
    on("method", "change", () => { state.method = Number($("method").value); again(); redraw("matrix-plot"); });
    let waiting = 0;
    on("search", "input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(() => { state.query = fold($("search").value.trim()); again(); }, 150);
    });
    on("which", "change", () => { state.shown = PAGE; images(); });
    on("more", "click", () => { state.shown += PAGE; images(); });
    on("map-of", "change", () => redraw("map-plot"));
    if (D.labelled) on("difference", "change", () => redraw("matrix-plot"));
    if (D.labelled) on("export", "click", save);
    lists();
    copies();
  }
  const watch = new IntersectionObserver((entries) => {
    for (const { target } of entries.filter((entry) => entry.isIntersecting)) {
      seen.add(target.id);
      drawn(target.id);
    }
  }, { rootMargin: "300px" });
  for (const id of Object.keys(draws).filter($)) watch.observe($(id));
  document.documentElement.dataset.ready = "yes";
})();
