"use strict";
// Tables: a click on a heading sorts, a word in the filter box hides rows without it.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = (cell.dataset.value ?? cell.firstChild?.textContent ?? cell.textContent).trim();
    const asNumber = Number(text.replace("−", "-"));
    return text === "" ? null : Number.isNaN(asNumber) ? text.toLowerCase() : asNumber;
  };
  const sort = (column) => {
    const up = headings[column].getAttribute("aria-sort") !== "ascending";
    headings.forEach((heading) => heading.removeAttribute("aria-sort"));
    headings[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].map((row) => [value(row, column), row]);
    // Rows without a value stay at the end, whichever way it is sorted.
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1;
      return up ? order : -order;
    });
    body.append(...rows.map(([, row]) => row));
  };
  headings.forEach((heading, column) => {
    heading.tabIndex = 0;
    heading.addEventListener("click", () => sort(column));
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(column); }
    });
  });
}
for (const box of document.querySelectorAll("input[data-filters]")) {
  const body = document.getElementById(box.dataset.filters).tBodies[0];
  box.addEventListener("input", () => {
    const wanted = box.value.trim().toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
