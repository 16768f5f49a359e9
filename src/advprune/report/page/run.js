"use strict";
// What is known of one run: what it measured, what broke it, how it was trained, and the options of each stage.

// {runs: {key: {stages, title, doubts, facts, parts, images, classes, picture}}, stages: {key: {kind, folder, made, config,
// command, curves}}}, compressed.
async function details() {
  const bytes = Uint8Array.from(atob(document.getElementById("details").textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}
let loaded = null, opener = null;
const dialog = document.getElementById("run");

function element(name, text, attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  if (text) made.textContent = text;
  return made;
}

function small(caption, heads, rows) {
  const table = element("table", "", { className: "small" }), head = table.createTHead().insertRow();
  table.createCaption().textContent = caption;
  for (const text of heads) head.append(element("th", text, { scope: "col" }));
  for (const row of rows) {
    const line = table.insertRow();
    for (const text of row) line.insertCell().textContent = text;
  }
  return table;
}

const percent = (share) => (100 * share).toFixed(1);

function parts(run) {
  if (!run.parts.length) return null;
  const broke = (at) => (at ? Math.round((run.parts[at - 1][1] - run.parts[at][1]) * run.images) : "");
  return small("Which part broke what", ["part", "right after it, %", "images it broke"],
    run.parts.map(([name, share], at) => [name === "clean" ? "no attack" : name, percent(share), broke(at)]));
}

function classes(run) {
  const of = run.classes;
  if (!of) return null;
  const share = (name, at) => (of[name] ? percent(of[name][at] / of.images[at]) : "");
  return small("Accuracy by class, %", ["class", "images", "clean", "right under attack"],
    of.class.map((label, at) => [label, of.images[at], share("clean", at), share("right", at)]));
}

// The validation accuracies over the epochs of all stages, one after the other.
function curves(stages) {
  const trained = stages.filter((stage) => stage.curves.epoch), wide = innerWidth < 700 ? 330 : 640, high = 180, left = 34, below = 34;
  const epochs = trained.reduce((sum, stage) => sum + stage.curves.epoch.at(-1), 0);
  if (!epochs) return null;
  const svg = [], x = (epoch) => left + (epoch / epochs) * (wide - left - 8), y = (share) => 8 + (1 - share) * (high - 8);
  const text = (at, height, words, anchor) => `<text x="${at}" y="${height}" text-anchor="${anchor}">${words}</text>`;
  for (const share of [0, 0.5, 1]) {
    svg.push(`<line class="grid" x1="${left}" x2="${wide - 8}" y1="${y(share)}" y2="${y(share)}"/>`, text(left - 5, y(share) + 4, 100 * share, "end"));
  }
  let start = 0;
  for (const { kind, curves: of } of trained) {
    const end = start + of.epoch.at(-1), from = start;
    svg.push(`<line class="grid" x1="${x(end)}" x2="${x(end)}" y1="8" y2="${high}"/>`, text((x(start) + x(end)) / 2, high + 15, kind, "middle"));
    for (const [hue, name, word] of [[0, "val_clean_acc", "clean"], [1, "val_robust_acc", "robust"]]) {
      const points = (of[name] ?? []).flatMap((share, at) => (share === null ? [] : [[x(from + of.epoch[at]), y(share), of.epoch[at], share, of.loss?.[at]]]));
      svg.push(`<polyline class="series-${hue}" points="${points.map((point) => point.slice(0, 2).map((n) => n.toFixed(1))).join(" ")}"/>`);
      for (const [at, height, epoch, share, loss] of points) {
        svg.push(`<circle class="series-${hue}" cx="${at.toFixed(1)}" cy="${height.toFixed(1)}" r="2.5"><title>${kind}, epoch ${epoch}: ${word} ${percent(share)} %, loss ${loss}</title></circle>`);
      }
    }
    start = end;
  }
  svg.push(text((wide + left) / 2, high + 31, "epochs", "middle"));
  const figure = element("figure"), words = "Validation images, %: clean (blue) and robust under the objective's own attack (orange); a point has its loss.";
  figure.innerHTML = `<svg class="curves" viewBox="0 0 ${wide} ${high + below}" role="img" aria-label="Training curves">${svg.join("")}</svg>`;
  figure.append(element("figcaption", words));
  return figure;
}

function picture(run) {
  if (!run.picture) return null;
  const figure = element("figure"), words = "Images that were attacked, those first that were fooled; above each its class, and what the network saw before > after.";
  figure.append(element("img", "", { src: `data:image/png;base64,${run.picture}`, alt: "images, attacked images, and what was added" }));
  figure.append(element("figcaption", words));
  return figure;
}

function described(stage, name, open) {
  const block = element("details", "", { open }), link = element("a", stage.folder, { href: encodeURI(stage.folder) }), where = element("p", "folder ");
  where.append(link, element("span", ` · ${stage.made}`));
  block.append(element("summary", `${stage.kind} ${name}`), where);
  if (stage.command) {
    const again = element("p", "made by "), button = element("button", "copy command", { type: "button", className: "copy" });
    button.dataset.command = stage.command;
    again.append(element("code", stage.command), " ", button);
    block.append(again);
  }
  block.append(element("pre", stage.config, { tabIndex: 0 }));
  return block;
}

async function follow() {
  const key = new URLSearchParams(location.hash.slice(1)).get("run");
  if (!key) return dialog.close();
  const all = await (loaded ??= details()), run = all.runs[key], body = dialog.querySelector("div");
  dialog.querySelector("h2").textContent = run ? run.title : `run ${key}`;
  body.replaceChildren();
  if (run) {
    const stages = run.stages.map((name) => all.stages[name]), doubts = element("ul", "", { className: "doubts" });
    for (const doubt of run.doubts) doubts.append(element("li", doubt));
    const facts = element("p", run.facts.map(([name, text]) => `${name} ${text}`).join(" · "));
    const beside = element("div", "", { className: "beside" });
    beside.append(...[parts(run), classes(run)].filter(Boolean));
    body.append(...[facts, run.doubts.length ? doubts : null, curves(stages), picture(run), beside].filter(Boolean));
    body.append(...stages.map((stage, place) => described(stage, run.stages[place], place === stages.length - 1)));
  } else body.append(element("p", "This report has no such run."));
  if (!dialog.open) dialog.showModal();
  dialog.scrollTop = 0;
}

function copied(button) {
  const words = button.textContent, said = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = words; }, 1500); };
  const select = () => { // a page from a file may have no clipboard: the command is shown, to be copied by hand
    const shown = element("code", button.dataset.command);
    button.replaceWith(shown);
    getSelection().selectAllChildren(shown);
  };
  if (!navigator.clipboard) return select();
  navigator.clipboard.writeText(button.dataset.command).then(said, select);
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button.copy");
  if (button) copied(button);
});
document.addEventListener("pointerover", (event) => {
  const over = event.target.closest("button.copy, a.flag"); // words twice in each row would double the page
  if (over) over.title = over.dataset.command ?? over.ariaLabel;
});
document.addEventListener("click", (event) => { opener = event.target.closest("a[href^='#run=']") ?? opener; });
dialog.addEventListener("close", () => {
  if (location.hash.startsWith("#run=")) history.replaceState(null, "", location.pathname + location.search);
  opener?.focus();
});
dialog.querySelector("button").addEventListener("click", () => dialog.close());
addEventListener("hashchange", follow);
if (location.hash.startsWith("#run=")) follow();
