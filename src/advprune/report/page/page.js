"use strict";
// Sorting, filtering and following a row to its configuration. No library: what is sorted and filtered is in the page.

const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();

function sort(table, header) {
  const column = header.cellIndex, up = header.getAttribute("aria-sort") !== "ascending", body = table.tBodies[0];
  const numeric = "numeric" in header.dataset;
  const order = (a, b) => (numeric ? a - b : a.localeCompare(b, "en", { numeric: true })) * (up ? 1 : -1);
  const rows = [...body.rows].sort((one, other) => {
    const [a, b] = [value(one, column), value(other, column)];
    if (a === "" || b === "") return (a === "") - (b === ""); // what has no value stays last, either way
    return order(a, b);
  });
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows);
}

function filter(section) {
  const table = section.querySelector("table"), words = section.querySelector("input[type=search]");
  const asked = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  const chosen = [...section.querySelectorAll("select")].filter((select) => select.value !== "");
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !(asked.every((word) => text.includes(word)) &&
      chosen.every((select) => value(row, Number(select.dataset.column)) === select.value));
    shown += !row.hidden;
  }
  section.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
}

for (const section of document.querySelectorAll("section[data-table]")) {
  const table = section.querySelector("table");
  for (const select of section.querySelectorAll("select")) {
    const values = new Set([...table.tBodies[0].rows].map((row) => value(row, Number(select.dataset.column))));
    values.delete("");
    for (const one of [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) select.add(new Option(one));
  }
  for (const event of ["input", "change"]) section.querySelector(".filters").addEventListener(event, () => filter(section));
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(table, button.parentNode));
  }
  filter(section);
}

// The configurations: {runs: {key: [stage keys]}, stages: {key: {kind, folder, config, made}}}, compressed.
async function configurations() {
  const bytes = Uint8Array.from(atob(document.getElementById("configs").textContent.trim()), (c) => c.charCodeAt(0));
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

async function follow() {
  const key = new URLSearchParams(location.hash.slice(1)).get("run");
  if (!key) return dialog.close();
  const all = await (loaded ??= configurations());
  const body = dialog.querySelector("div");
  dialog.querySelector("h2").textContent = `run ${key}`;
  body.replaceChildren();
  for (const [place, name] of (all.runs[key] ?? []).entries()) {
    const stage = all.stages[name], details = element("details", "", { open: place === all.runs[key].length - 1 });
    const link = element("a", stage.folder, { href: encodeURI(stage.folder) });
    details.append(element("summary", `${stage.kind} ${name}`), element("p", "folder "), element("pre", stage.config, { tabIndex: 0 }));
    details.querySelector("p").append(link, element("span", ` · ${stage.made}`));
    if (stage.command) {
      const again = element("p", "made by "), button = element("button", "copy command", { type: "button", className: "copy" });
      button.dataset.command = stage.command;
      again.append(element("code", stage.command), " ", button);
      details.querySelector("pre").before(again);
    }
    body.append(details);
  }
  if (!body.firstChild) body.append(element("p", "This report has no such run."));
  if (!dialog.open) dialog.showModal();
}
function copied(button) {
  const said = () => { button.textContent = "copied"; setTimeout(() => { button.textContent = "copy command"; }, 1500); };
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
document.addEventListener("click", (event) => { opener = event.target.closest("a[href^='#run=']") ?? opener; });
dialog.addEventListener("close", () => {
  if (location.hash.startsWith("#run=")) history.replaceState(null, "", location.pathname + location.search);
  opener?.focus();
});
dialog.querySelector("button").addEventListener("click", () => dialog.close());
addEventListener("hashchange", follow);
if (location.hash.startsWith("#run=")) follow();

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement, theme = root.dataset.theme === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  try { localStorage.setItem("advprune-theme", theme); } catch { /* a page from a file may have no storage */ }
});
