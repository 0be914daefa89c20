for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const numeric = head.classList.contains("n");
    const text = row => row.cells[column].textContent.trim();
    const value = row => parseFloat(text(row).replaceAll(",", "").replace("<", ""));
    button.addEventListener("click", () => {
      const sorted = head.getAttribute("aria-sort");
      const down = sorted ? sorted === "ascending" : numeric;
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => numeric
        ? isNaN(value(a)) - isNaN(value(b)) || (down ? -1 : 1) * (value(a) - value(b))
        : (down ? -1 : 1) * text(a).localeCompare(text(b), undefined, { numeric: true });
      for (const body of table.tBodies) {
        body.append(...[...body.rows].filter(row => row.cells.length === heads.length).sort(compare));
      }
    });
  });
}
