"use strict";
// Sorting, filtering, columns and colours. No library: DataTables is 600 kB, and these lines are all that is used of it.

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
  const weaker = section.querySelector("input[data-weaker]")?.checked ?? true;
  let shown = 0;
  for (const row of table.tBodies[0].rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !(asked.every((word) => text.includes(word)) && (weaker || !("weaker" in row.dataset)) &&
      chosen.every((select) => value(row, Number(select.dataset.column)) === select.value));
    shown += !row.hidden;
  }
  section.querySelector("output").textContent = `${shown} of ${table.tBodies[0].rows.length} rows`;
}

// Columns: a style sheet of their own hides some, and keeps those up to the accuracies in sight.
function columns(section, table) {
  const style = document.head.appendChild(document.createElement("style"));
  const boxes = section.querySelector("details.columns div"), heads = [...table.tHead.rows[0].cells];
  const hidden = new Set(heads.flatMap((head, at) => ("aside" in head.dataset ? [at] : [])));
  const lay = () => {
    const off = [...hidden].map((at) => `#${table.id} tr > :nth-child(${at + 1}) { display: none; }`);
    style.textContent = off.join("\n");
    let left = 0;
    const kept = heads.slice(0, Number(table.dataset.kept)).flatMap((head, at) => {
      if (hidden.has(at)) return [];
      const rule = `#${table.id} tr > :nth-child(${at + 1}) { position: sticky; left: ${left}px; z-index: 1; background: inherit; }
        #${table.id} thead tr > :nth-child(${at + 1}) { z-index: 3; background: var(--surface); }`;
      left += head.getBoundingClientRect().width;
      return [rule];
    });
    style.textContent += `@media (min-width: 701px) { ${kept.join("\n")} }`;
  };
  for (const [at, head] of heads.entries()) {
    const label = document.createElement("label"), box = document.createElement("input");
    Object.assign(box, { type: "checkbox", checked: !hidden.has(at) });
    box.addEventListener("change", () => { box.checked ? hidden.delete(at) : hidden.add(at); lay(); });
    label.append(box, ` ${head.textContent.trim()}`);
    boxes.append(label);
  }
  addEventListener("resize", lay);
  return lay;
}

for (const section of document.querySelectorAll("section[data-table]")) {
  const table = section.querySelector("table");
  for (const select of section.querySelectorAll("select")) {
    const values = new Set([...table.tBodies[0].rows].map((row) => value(row, Number(select.dataset.column))));
    values.delete("");
    for (const one of [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) select.add(new Option(one));
  }
  const lay = columns(section, table);
  for (const event of ["input", "change"]) section.querySelector(".filters").addEventListener(event, () => { filter(section); lay(); });
  for (const button of table.querySelectorAll("th button")) {
    button.addEventListener("click", () => sort(table, button.parentNode));
  }
  filter(section);
  lay();
}
document.addEventListener("click", (event) => { // a list of columns closes as a list does
  for (const open of document.querySelectorAll("details.columns[open]")) if (!open.contains(event.target)) open.open = false;
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement, theme = root.dataset.theme === "dark" ? "light" : "dark";
  root.dataset.theme = theme;
  try { localStorage.setItem("advprune-theme", theme); } catch { /* a page from a file may have no storage */ }
});
